"""The server starts no weaker than its policy asks, and says what is missing. Layers are really taken away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from isol8.kernel import cgroups
from tests.conftest import Serve
from tests.support.calls import execute
from tests.support.server import serving

# Runs what follows where the cgroup file systems are out of sight.
NO_CGROUPS = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"', "sh")
# Runs what follows in a group that it sees as the topmost, as in a container with a cgroup namespace of its own.
MOUNT_AGAIN = 'umount /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
ENTER = f"""echo $$ >"$0/cgroup.procs" && exec unshare --cgroup --mount sh -c '{MOUNT_AGAIN}' sh "$@\""""
IN_A_NAMESPACE = ("sh", "-c", ENTER)
# Runs what follows without the right to make namespaces, mounts and cgroups.
NO_ADMINISTRATION = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")


def _run(wrapper: tuple[str, ...], *arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    if os.geteuid() != 0:
        pytest.skip("the native engine needs root")
    environment = {**os.environ, "ISOL8_PORT": "0", "ISOL8_API_KEY": "key"}
    command = [*wrapper, sys.executable, "-m", "isol8", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, cwd=directory)


@pytest.mark.parametrize(
    ("wrapper", "layer"),
    [
        pytest.param(NO_CGROUPS, "memory-limit", marks=pytest.mark.cgroup),
        (NO_ADMINISTRATION, "mount-namespace"),
    ],
    ids=["cgroups", "admin"],
)
def test_strict_refuses_to_start_and_names_the_layer(wrapper: tuple[str, ...], layer: str, tmp_path: Path) -> None:
    done = _run(wrapper, "serve", directory=tmp_path)
    assert done.returncode != 0
    assert f"{layer} cannot be enforced" in done.stderr
    assert "what to do" in done.stderr
    assert "listens on" not in done.stdout


@pytest.mark.parametrize("wrapper", [NO_CGROUPS, NO_ADMINISTRATION], ids=["cgroups", "admin"])
def test_doctor_tells_the_same(wrapper: tuple[str, ...], tmp_path: Path) -> None:
    done = _run(wrapper, "doctor", "--json", directory=tmp_path)
    assert done.returncode != 0
    report = json.loads(done.stdout)
    assert report["starts"] is False
    missing = [layer for layer in report["layers"] if not layer["enforced"]]
    assert missing
    assert all(layer["detail"] and layer["remedy"] for layer in missing)


@pytest.mark.cgroup
def test_doctor_finds_every_layer_here(tmp_path: Path) -> None:
    done = _run((), "doctor", "--json", directory=tmp_path)
    report = json.loads(done.stdout)
    assert report["starts"] is True
    assert [layer["name"] for layer in report["layers"] if not layer["enforced"]] == []


@pytest.mark.parametrize(
    ("wrapper", "detail"), [((), ""), (NO_CGROUPS, "not enforced: memory-limit")], ids=["all", "few"]
)
def test_doctor_says_whether_node_is_copied(
    require: Callable[[str], None], wrapper: tuple[str, ...], detail: str, tmp_path: Path
) -> None:
    """Which no layer depends on, and how fast it starts does."""
    require("node")
    report = json.loads(_run(wrapper, "doctor", "--json", directory=tmp_path).stdout)
    runtimes = {runtime["name"]: runtime for runtime in report["runtimes"]}
    assert runtimes["node"]["copied"] is not bool(detail)
    assert runtimes["node"]["detail"].startswith(detail)
    assert "copied" not in runtimes["python"]
    said = _run(wrapper, "doctor", directory=tmp_path).stdout
    assert (f"boots in every sandbox: {detail}" if detail else "booted once, and copied") in said


if cgroups.find().version == 2:  # on version 1 groups can be made below any other

    @pytest.mark.cgroup
    def test_a_container_with_a_cgroup_namespace(tmp_path: Path) -> None:
        """The topmost group that it sees has processes in it, this server's at least, and they must make way."""
        outside = Path("/sys/fs/cgroup")
        (outside / "cgroup.subtree_control").write_text("+memory +cpu +pids")
        group = outside / f"container-{os.getpid()}"
        group.mkdir()
        try:
            with serving(tmp_path, wrapper=(*IN_A_NAMESPACE, str(group))) as running, running.client() as client:
                assert execute(client, "print('hello')", "python")["stdout"] == "hello\n"
                inside = {path.name.partition("-")[0] for path in group.iterdir() if path.is_dir()}
                assert inside == {"isol8", "server"}
            assert "cannot be enforced" not in running.log_text()
            assert not [path for path in group.iterdir() if path.is_dir()]
        finally:
            group.rmdir()


@pytest.mark.cgroup
def test_relaxed_starts_and_says_so(serve: Serve) -> None:
    running = serve({"policy": {"isolation": "relaxed"}}, wrapper=NO_CGROUPS)
    with running.client() as client:
        assert execute(client, "print('hello')", "python")["stdout"] == "hello\n"
    assert "memory-limit cannot be enforced" in running.log_text()


def test_relaxed_does_not_go_without_what_makes_a_sandbox(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"policy": {"isolation": "relaxed"}}))
    done = _run(NO_ADMINISTRATION, "serve", "--config", "config.json", directory=tmp_path)
    assert done.returncode != 0
    assert "mount-namespace cannot be enforced" in done.stderr
