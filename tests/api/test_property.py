"""Property-based: whatever fits, or does not fit, the server's own OpenAPI document gets an answer that it names.

A 500 is named for programs that the kernel kills and for set-up scripts that fail, so the status alone says nothing;
a bug of the server's own shows in its log.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.server import Server

CHECKS = "status_code_conformance,content_type_conformance,response_schema_conformance"


def test_no_answer_that_the_document_does_not_name(server: Server, tmp_path: Path) -> None:
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{server.url}/openapi.json",
        *("--header", f"Authorization: Bearer {server.key}"),
        *("--checks", CHECKS),
        *("--max-examples", "40"),
        *("--max-time", "25"),
        *("--request-timeout", "400"),  # a program may be waited for: the machine is busy
        *("--generation-database", "none"),
        "--continue-on-failure",
        "--no-color",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stdout[-8000:]
    assert "passed" in done.stdout, done.stdout[-8000:]
    assert "Traceback" not in server.log_text(), server.log_text()
