from __future__ import annotations

import io

import pytest

from cluster.terminal import Terminal


class TerminalFile(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_answers_and_remarks_go_to_different_files() -> None:
    out, err = io.StringIO(), io.StringIO()
    terminal = Terminal(out, err)
    terminal.print("answer")
    terminal.note("remark")
    terminal.warn("careful")
    terminal.error("wrong")
    assert out.getvalue() == "answer\n"
    assert err.getvalue() == "remark\naspired: warning: careful\naspired: error: wrong\n"


def test_long_lines_and_brackets_stay_whole_in_a_pipe() -> None:
    out = io.StringIO()
    line = "[bold]" + "x" * 500 + "[/bold] :smile:"
    Terminal(out, io.StringIO()).print(line, indent=2)
    assert out.getvalue() == f"  {line}\n"


def test_an_error_of_several_lines_becomes_one() -> None:
    err = io.StringIO()
    Terminal(io.StringIO(), err).error("first\n  second")
    assert err.getvalue() == "aspired: error: first second\n"


def test_a_table_without_rows_is_its_heading() -> None:
    out = io.StringIO()
    Terminal(out, io.StringIO()).table(("A", "LONG"), [])
    assert out.getvalue() == "A  LONG\n"


def test_a_step_in_a_pipe_says_when_it_begins_and_when_it_is_done() -> None:
    err = io.StringIO()
    with Terminal(io.StringIO(), err).step("exporting"):
        assert err.getvalue() == "exporting ...\n"
    assert err.getvalue().startswith("exporting ...\nexporting: done in ")


def test_a_step_that_fails_is_not_said_to_be_done() -> None:
    err = io.StringIO()
    with pytest.raises(ZeroDivisionError), Terminal(io.StringIO(), err).step("dividing"):
        raise ZeroDivisionError
    assert err.getvalue() == "dividing ...\n"


def test_programs_get_the_same_text_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    out = TerminalFile()
    text = '{"key": "' + "v" * 100 + '"}\n'
    Terminal(out, io.StringIO()).write(text)
    assert out.getvalue() == text


def test_progress_in_a_pipe_is_a_line_for_each_thing_that_is_done() -> None:
    err = io.StringIO()
    with Terminal(io.StringIO(), err).progress() as show:
        for done in (0, 5, 10):
            show("Uploading [bold]", done, 10)
        show("Waiting", 10, 10)
    assert err.getvalue() == "Uploading [bold] ...\nWaiting ...\n"


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TERM", "xterm-256color"), ("COLUMNS", "120")):
        monkeypatch.setenv(name, value)
    err = TerminalFile()
    with Terminal(io.StringIO(), err).progress() as show:
        show("Uploading [bold]", 5_000_000, 10_000_000)
    assert "Uploading [bold]" in err.getvalue()
    assert "5.0/10.0 MB" in err.getvalue()
