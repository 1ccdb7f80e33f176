"""Each program of the corpus does in the sandbox exactly what it does under the bare interpreter."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.differential import bare
from tests.differential.cases import Case, all_cases
from tests.support.calls import execute, stdout
from tests.support.server import Server

CASES = all_cases()
# How each language tells the environment that it was started with. For bash that of its start: it adds to its own.
DUMP_ENVIRONMENT = {
    "python": "import json, os; print(json.dumps(dict(os.environ)))",
    "node": "console.log(JSON.stringify(process.env))",
    "bun": "console.log(JSON.stringify(process.env))",
    "deno": "console.log(JSON.stringify(Deno.env.toObject()))",
    "bash": """python3 -c 'import json, sys
print(json.dumps(dict(line.split("=", 1) for line in open(sys.argv[1]).read().split("\\0") if line)))
' /proc/$$/environ""",
}
_environments: dict[tuple[str, str], dict[str, str]] = {}


def _environment(server: Server, client: httpx.Client, runtime: str) -> dict[str, str]:
    """The sandbox's own environment, so that the bare side starts from the same. Another test bounds what is in it."""
    key = (server.url, runtime)
    if key not in _environments:
        _environments[key] = json.loads(stdout(client, DUMP_ENVIRONMENT[runtime], runtime))
    return _environments[key]


def _in_sandbox(client: httpx.Client, case: Case) -> bare.Ending:
    request = case.request()
    result = execute(client, None, **request)
    assert not result["timedOut"], result
    return bare.Ending(result["stdout"], result["stderr"], result["exitCode"])


def test_the_corpus_is_large_enough() -> None:
    names = [(case.runtime, case.name, case.extension) for case in CASES]
    assert len(names) == len(set(names)) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.runtime}-{case.name}{case.extension}")
def test_same_as_bare(
    case: Case,
    server: Server,
    client: httpx.Client,
    require: Callable[[str], None],
    tmp_path: Path,
    image_files: Path | None,
) -> None:
    require(case.runtime)
    compare(case, server, client, tmp_path, image_files)


def compare(case: Case, server: Server, client: httpx.Client, tmp_path: Path, image_files: Path | None = None) -> None:
    """Assert that a program does in a sandbox of `server` what it does outside: on the machine, or among the files of
    the image that its sandboxes are made from."""
    outside = bare.run(case, _environment(server, client, case.runtime), tmp_path, image_files)
    inside = _in_sandbox(client, case)
    for name in ("stdout", "stderr"):
        assert case.normalised(getattr(inside, name)) == case.normalised(getattr(outside, name)), name
    assert inside.exit_code == outside.exit_code
