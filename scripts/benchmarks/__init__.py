"""What `scripts/bench` measures, and how.

A `Scenario` (catalog.py names them all) asks the `Workbench` for servers and drives them with a load generator, in rounds:
Aspired, its peer, Aspired, its peer. Its `Figure`s go to the report: a table, a JSON file, a plot, a section of a page.
"""
