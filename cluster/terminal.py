"""What a command shows: answers on standard output, all else on standard error; colour for people, plain lines for pipes."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text


class Terminal:
    """One command's output. Text is printed as it is: square brackets in a message are not markup.

    On a terminal lines wrap between words and may be coloured (not where NO_COLOR is set); in a pipe every line stays whole.
    """

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out = Console(file=out or sys.stdout, highlight=False, markup=False, emoji=False)
        self._err = Console(file=err or sys.stderr, highlight=False, markup=False, emoji=False)

    def print(self, text: str = "", style: str | None = None, indent: int = 0) -> None:
        _print(self._out, text, style, indent)

    def write(self, text: str) -> None:
        """Text for programs: the same in a pipe and on a terminal."""
        self._out.file.write(text)
        self._out.file.flush()

    def note(self, text: str) -> None:
        """Something a person may like to know while the command works."""
        _print(self._err, text)

    def warn(self, text: str) -> None:
        _print(self._err, f"aspired: warning: {_one_line(text)}", "yellow")

    def error(self, text: str) -> None:
        _print(self._err, f"aspired: error: {_one_line(text)}", "bold red")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str | None] = ()) -> None:
        """Aligned columns. `styles` colours the rows, one each."""
        if self._out.is_terminal:
            table = Table(box=SIMPLE_HEAD, pad_edge=False)
            for column in columns:
                table.add_column(column, overflow="fold")
            for number, row in enumerate(rows):
                table.add_row(*map(Text, row), style=styles[number] if styles else None)
            self._out.print(table)
            return
        widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
        for row in (columns, *rows):
            self.print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Shows that something is being done while the body runs, and how long it took."""
        begun = time.monotonic()
        if self._err.is_terminal:
            with self._err.status(text):
                yield
        else:
            self.note(f"{text} ...")
            yield
        self.note(f"{text}: done in {time.monotonic() - begun:.1f} s")

    @contextlib.contextmanager
    def progress(self) -> Iterator[Callable[[str, int, int], None]]:
        """Gives what shows progress: told what is done, how many bytes of it, and of how many in all.

        A bar on a terminal, which goes at the end; in a pipe a line for each new text.
        """
        if self._err.is_terminal:
            columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
            with Progress(TextColumn("{task.description}", markup=False), *columns, console=self._err, transient=True) as bar:
                task = bar.add_task("", total=None)
                yield lambda text, done, total: bar.update(task, description=text, completed=done, total=total)
            return
        shown = ""

        def show(text: str, done: int, total: int) -> None:
            nonlocal shown
            if text != shown:
                shown = text
                self.note(f"{text} ...")

        yield show


def _print(console: Console, text: str, style: str | None = None, indent: int = 0) -> None:
    if console.is_terminal:
        console.print(Padding(Text(text, style or ""), (0, 0, 0, indent)))
    else:
        console.file.write(f"{' ' * indent}{text}\n")
        console.file.flush()


def _one_line(text: str) -> str:
    return " ".join(text.split())
