"""The figures in the documents are those of a run, and of nothing else."""

from __future__ import annotations

from bench import publish
from bench.surroundings import ROOT


def test_documents_show_what_was_measured_and_nothing_else() -> None:
    shown = publish.rendered(publish.load(ROOT), ROOT)
    for path, text in shown.items():
        assert (ROOT / path).read_text() == text, f"{path} is not what `make bench-publish` makes of the run"
    pictures = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("benchmarks-*.svg")}
    assert pictures == {path for path in shown if path.endswith(".svg")}


def test_what_is_shown_is_a_whole_run_of_a_commit() -> None:
    published = publish.load(ROOT)
    if published:
        publish.check(published["latest"])
