"""Measures Aspired beside its peers: every row of the targets' table, or those named."""

from __future__ import annotations

import argparse
import datetime
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cluster.core.errors import AspiredError, NotFound
from cluster.terminal import Terminal
from scripts.benchmarks.catalog import scenarios
from scripts.benchmarks.figure import Figure
from scripts.benchmarks.machine import this_machine
from scripts.benchmarks.peers import install_pytriton, pytriton_python
from scripts.benchmarks.plot import draw
from scripts.benchmarks.process_tree import adopt_orphans, end_descendants
from scripts.benchmarks.report import COLUMNS, Report, as_json, as_markdown, rewrite_section, table_rows
from scripts.benchmarks.scenario import Scenario, select
from scripts.benchmarks.workbench import PYTRITON, Workbench

_STYLES = {"met": "green", "not met": "red"}
_END_GRACE_S = 10.0


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    terminal = Terminal()
    if options.micro:
        terminal.error("--micro goes first, as in: scripts/bench --micro -k lane")
        return 1
    if options.list:
        terminal.table(("ROW", "WHAT"), [(scenario.name, scenario.title) for scenario in scenarios()])
        return 0
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    adopt_orphans()
    try:
        return _run(options, terminal, shlex.join(["scripts/bench", *arguments]))
    except AspiredError as error:
        terminal.error(error.message)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        end_descendants(_END_GRACE_S)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="names of rows, or patterns such as 'rest-*' (default: all)")
    parser.add_argument("--list", action="store_true", help="name all rows and stop")
    parser.add_argument("--peers", action="store_true", help="install pytriton into an environment of its own first, once")
    parser.add_argument("--seconds", type=_positive, default=2, help="of each measurement (default 2)")
    parser.add_argument("--rounds", type=_positive, default=3, help="how often servers take turns (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of every round there")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the ratios there")
    parser.add_argument("--page", type=Path, metavar="FILE.md", help="rewrite the figures between the marks of that page")
    parser.add_argument(
        "--micro", action="store_true", help="the first argument: run the micro-benchmarks, the rest is pytest's"
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 or more")
    return number


def _run(options: argparse.Namespace, terminal: Terminal, command: str) -> int:
    chosen = select(scenarios(), options.rows)
    try:
        page = options.page.read_text() if options.page else ""
    except OSError as error:
        raise NotFound(f"--page={options.page}: {error.strerror}") from None
    if options.page:
        rewrite_section(page, "")  # refuses a page without marks before anything is measured
    python = install_pytriton(terminal) if options.peers else pytriton_python()
    left_out = [scenario.name for scenario in chosen if PYTRITON in scenario.needs and python is None]
    if left_out:
        terminal.note(f"Left out, because they need pytriton (--peers installs it): {', '.join(left_out)}")
    chosen = [scenario for scenario in chosen if scenario.name not in left_out]
    with tempfile.TemporaryDirectory(prefix="aspired-bench-") as work:
        bench = Workbench(Path(work), terminal, options.seconds, options.rounds, python)
        figures, failures = _measure(bench, chosen, terminal)
    report = Report(
        machine=this_machine(),
        command=command,
        seconds=options.seconds,
        rounds=options.rounds,
        date=datetime.date.today().isoformat(),
        figures=figures,
        failures=failures,
        left_out=left_out,
    )
    terminal.print(str(report.machine))
    rows = table_rows(report)
    terminal.table(COLUMNS, rows, [_STYLES.get(row[-1]) for row in rows])
    if options.json:
        options.json.write_text(as_json(report))
    if options.plot:
        options.plot.write_text(draw(report.figures))
    if options.page:
        link = os.path.relpath(options.plot, options.page.parent) if options.plot else None
        options.page.write_text(rewrite_section(page, as_markdown(report, link)))
    return 1 if failures else 0


def _measure(bench: Workbench, chosen: Sequence[Scenario], terminal: Terminal) -> tuple[list[Figure], dict[str, str]]:
    figures: list[Figure] = []
    failures: dict[str, str] = {}
    with bench.opened():
        for number, scenario in enumerate(chosen):
            try:
                bench.prepare(scenario.needs)
                with terminal.step(f"[{number + 1}/{len(chosen)}] {scenario.title}"):
                    figures += scenario.measure(bench)
            except AspiredError as error:
                terminal.error(f"{scenario.name}: {error.message}")
                failures[scenario.name] = error.message
            bench.release({name for later in chosen[number + 1 :] for name in later.needs})
    return figures, failures


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:
        # Who read the table has seen enough, as `head` does; the interpreter's own flush must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
