"""The API process gives up root: it must not need any file of the installation after that."""

import sys
from pathlib import Path

import isol8
from tests.conftest import Serve
from tests.support.calls import execute

# Makes a directory that only root may enter, shows the installation there, and runs from it.
SCRIPT = """
set -e
mount -t tmpfs -o mode=700 none "$1"
mkdir "$1/venv" "$1/src"
mount --bind "$2" "$1/venv"
mount --bind "$3" "$1/src"
export PYTHONPATH="$1/src"
interpreter="$1/venv/bin/python"
shift 4
exec "$interpreter" "$@"
"""


def test_an_installation_that_only_root_can_read(serve: Serve, tmp_path: Path) -> None:
    source = str(Path(isol8.__file__).parent.parent)
    wrapper = ("unshare", "--mount", "sh", "-c", SCRIPT, "sh", str(tmp_path), sys.prefix, source)
    running = serve(wrapper=wrapper)
    with running.client() as client:
        assert execute(client, "print('hello')", "python")["stdout"] == "hello\n"
        assert client.get("/docs").status_code == 200
        assert client.get("/openapi.json").status_code == 200
        assert client.get("/nowhere").status_code == 404
        assert client.post("/execute", content=b"{").status_code == 400
        with client.stream(
            "POST", "/execute/stream", json={"request": {"code": "echo 1", "runtime": "bash"}}
        ) as answer:
            assert "exit" in answer.read().decode()
        assert client.get("/sessions").status_code == 200
    assert "Traceback" not in running.log_text(), running.log_text()
