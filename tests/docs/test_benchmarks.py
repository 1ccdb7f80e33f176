"""The figures in the documents are those of a run, and of nothing else."""

from __future__ import annotations

from bench import publish
from bench.surroundings import ROOT


def test_documents_show_what_was_measured() -> None:
    for path, text in publish.rendered(publish.load(ROOT), ROOT).items():
        assert (ROOT / path).read_text() == text, (
            f"{path} is not what `make bench-publish` makes of docs/benchmarks.json"
        )


def test_what_is_shown_is_a_whole_run_of_a_commit() -> None:
    publish.check(publish.load(ROOT)["latest"])
