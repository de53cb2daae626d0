from __future__ import annotations

from pathlib import Path

from cluster.core.metric_reference import metric_reference

PAGE = Path(__file__).parents[3] / "docs" / "monitoring.md"


def test_the_page_has_every_metric_as_it_is() -> None:
    _, _, rest = PAGE.read_text().partition("metric_reference` -->\n")
    table, mark, _ = rest.partition("<!-- end of metrics -->")
    assert mark
    assert table == metric_reference()
