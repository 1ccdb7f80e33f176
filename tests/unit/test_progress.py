"""Progress: a bar where somebody looks, lines where nobody does."""

from __future__ import annotations

import io

from isol8.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_where_there_is_no_terminal() -> None:
    said: list[str] = []
    progress = Progress(said.append, io.StringIO())
    progress.step("one", 0, 2)
    progress.step("two", 1, 2)
    progress.close()
    assert said == ["[0/2] one", "[1/2] two"]


def test_a_bar_on_a_terminal() -> None:
    terminal = Terminal()
    progress = Progress(lambda line: None, terminal)
    progress.step("one", 1, 2)
    progress.step("two", 2, 2)
    progress.close()
    progress.close()
    drawn = terminal.getvalue()
    assert drawn.count("\r") == 2
    assert "[############............] 1/2" in drawn
    assert drawn.endswith("two\n")
