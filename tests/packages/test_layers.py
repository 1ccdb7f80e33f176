"""A set of packages is installed once, whoever asks for it and however many do, and is there from then on."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.packages.conftest import Shop, layers
from tests.packages.index import Index
from tests.packages.wheels import npm_package, sdist, wheel, wheel_name
from tests.support import machine
from tests.support.calls import body, events, execute, joined, refused, stdout


def test_installed_once(client: httpx.Client, index: Index) -> None:
    index.add_wheel("once", "name = 'once'")
    for _ in range(3):
        assert stdout(client, "import once; print(once.name)", installPackages=["once"]) == "once\n"
    assert index.fetched("once") == 1


def test_without_asking_it_is_not_there(client: httpx.Client, index: Index) -> None:
    index.add_wheel("unasked")
    stdout(client, "import unasked", installPackages=["unasked"])
    assert "ModuleNotFoundError" in execute(client, "import unasked")["stderr"]


def test_one_set_however_it_is_written(client: httpx.Client, index: Index) -> None:
    for name in ("left", "right"):
        index.add_wheel(name)
    for written in (["left", "right"], ["Right", " LEFT "], ["right", "left", "left"]):
        stdout(client, "import left, right", installPackages=written)
    assert (index.fetched("left"), index.fetched("right")) == (1, 1)


def test_fifty_at_once_install_once(client: httpx.Client, index: Index) -> None:
    index.add_wheel("crowd", "size = 50")
    index.gate.clear()
    with ThreadPoolExecutor(50) as pool:
        calls = [
            pool.submit(execute, client, f"import crowd; print({n}, crowd.size)", installPackages=["crowd"])
            for n in range(50)
        ]
        machine.until(lambda: index.fetched("crowd"), "the wheel is asked for")
        index.gate.set()
        assert [call.result()["stdout"] for call in calls] == [f"{n} 50\n" for n in range(50)]
    assert index.fetched("crowd") == 1


def test_dependencies_come_along(client: httpx.Client, index: Index) -> None:
    index.add_wheel("below", "value = 42")
    index.add(
        "above", wheel_name("above"), wheel("above", {"above.py": "from below import value"}, requires=("below",))
    )
    assert stdout(client, "import above; print(above.value)", installPackages=["above"]) == "42\n"


def test_progress_is_a_phase_of_its_own(client: httpx.Client, index: Index) -> None:
    index.add_wheel("progress")
    sent = body("import progress; print('ran')", installPackages=["progress"])
    first, second = events(client, sent), events(client, sent)
    kinds = [event["type"] for event in first]
    assert kinds == ["install"] * kinds.count("install") + ["stdout", "exit"]
    assert "+ progress==1.0" in joined(first, "install")
    assert [event["type"] for event in second] == ["stdout", "exit"]


def test_a_failed_install_says_why(client: httpx.Client) -> None:
    answer = client.post("/execute", json=body("1", installPackages=["no-such-package"]))
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (500, "install_failed")
    assert problem["error"].startswith("Package install failed: ")
    assert "no-such-package" in problem["error"]
    received = events(client, body("1", installPackages=["no-such-package"]))
    assert [event["type"] for event in received[-1:]] == ["error"]
    assert received[-1]["data"] == problem["error"]


def test_what_is_no_package_is_refused_before_any_event(client: httpx.Client) -> None:
    for path in ("/execute", "/execute/stream"):
        for written in (["-r/etc/passwd"], ["numpy", "https://example.org/a.whl"], ["../x"]):
            refused(client, 400, body("1", installPackages=written), path=path, mentions="request.installPackages[")
        refused(client, 400, body("ls", "bash", installPackages=["jq"]), path=path, mentions="bash")


def test_packages_stay_in_a_session(client: httpx.Client, index: Index) -> None:
    for name in ("earlier", "later"):
        index.add_wheel(name, f"name = {name!r}")
    session = "packages-stay"
    both = "import earlier, later; print(earlier.name, later.name)"
    stdout(client, "import earlier", installPackages=["earlier"], sessionId=session)
    assert stdout(client, "import earlier; print(earlier.name)", sessionId=session) == "earlier\n"
    assert stdout(client, both, installPackages=["later"], sessionId=session) == "earlier later\n"
    assert stdout(client, both, sessionId=session) == "earlier later\n"
    assert stdout(client, both, installPackages=["earlier"], sessionId=session) == "earlier later\n"
    client.delete(f"/session/{session}")


def test_a_session_with_files_gets_packages_while_it_lives(client: httpx.Client, index: Index) -> None:
    index.add_wheel("amid", "name = 'amid'")
    session = "packages-amid"
    stdout(client, "open('/sandbox/kept', 'w').write('kept')", sessionId=session)
    code = "import amid; print(amid.name, open('/sandbox/kept').read())"
    assert stdout(client, code, installPackages=["amid"], sessionId=session) == "amid kept\n"
    client.delete(f"/session/{session}")


def test_a_layer_that_the_interpreter_must_see_at_boot(client: httpx.Client, index: Index) -> None:
    files = {"booting.pth": "import booting; booting.ran = True\n", "booting.py": "ran = False\n"}
    index.add("booting", wheel_name("booting"), wheel("booting", files))
    for _ in range(2):
        assert stdout(client, "import booting; print(booting.ran)", installPackages=["booting"]) == "True\n"


def test_nothing_of_ours_is_to_be_seen(client: httpx.Client, index: Index) -> None:
    index.add_wheel("seen")
    code = """
import json, os, sys, seen
path = os.path.dirname(seen.__file__)
print(json.dumps([sorted(os.environ), path in sys.path, os.listdir('/sandbox'), os.listdir('/run'), seen.__file__]))
try:
    open(path + '/seen.py', 'a')
except OSError as error:
    print(error.strerror)
"""
    plain = stdout(client, "import json, os; print(json.dumps(sorted(os.environ)))")
    seen, error = stdout(client, code, installPackages=["seen"]).splitlines()
    variables, on_path, sandbox, run, _ = json.loads(seen)
    assert variables == json.loads(plain)
    assert (on_path, sandbox, run) == (True, ["main.py"], [])
    assert error in ("Permission denied", "Read-only file system")


def test_npm_for_three_runtimes(client: httpx.Client, index: Index) -> None:
    files = {"index.js": "exports.name = 'tiny'", "index.d.ts": "export const name: string"}
    index.add_npm("tiny", npm_package("tiny", files))
    code = "console.log(require('tiny').name)"
    assert stdout(client, code, "node", installPackages=["tiny"]) == "tiny\n"
    assert stdout(client, code, "node", installPackages=["tiny@^1"]) == "tiny\n"
    module = "import { name } from 'tiny'; const shown: string = name; console.log(shown)"
    assert stdout(client, module, "bun", installPackages=["tiny"]) == "tiny\n"
    assert stdout(client, module, "deno", installPackages=["npm:tiny"]) == "tiny\n"
    plain = module.replace(": string", "")
    assert stdout(client, plain, "node", installPackages=["tiny"], fileExtension=".mjs") == "tiny\n"


def test_a_failed_npm_install_says_why(client: httpx.Client) -> None:
    for runtime in ("node", "bun", "deno"):
        answer = client.post("/execute", json=body("1", runtime, installPackages=["no-such-package"]))
        assert answer.status_code == 500, answer.text
        assert answer.json()["error"].startswith("Package install failed: ")
        assert "404" in answer.json()["error"]


def test_sources_are_not_built_unless_the_policy_says_so(client: httpx.Client, index: Index) -> None:
    backend = "import urllib.request\nurllib.request.urlopen('{}/ran')\n"
    index.add("source-only", "source_only-1.0.tar.gz", sdist("source-only", backend.format(index.url)))
    answer = client.post("/execute", json=body("1", installPackages=["source-only"]))
    assert answer.status_code == 500, answer.text
    assert "no usable wheels" in answer.json()["error"] or "source" in answer.json()["error"]
    assert index.requests["/ran"] == 0


def test_a_policy_without_packages(shop: Shop) -> None:
    with shop({"policy": {"packages": False}}).client() as strict:
        refused(strict, 403, body("1", installPackages=["numpy"]), mentions="policy.packages")
        assert stdout(strict, "print(1)") == "1\n"


def test_layers_outlive_the_server_and_changed_ones_do_not(
    shop: Shop, index: Index, tmp_path: Path, data_dir: Path
) -> None:
    (tmp_path / "runtimes").symlink_to((data_dir / "runtimes").resolve())
    index.add_wheel("lasting", "value = 1")
    code = "import lasting; print(lasting.value)"
    with shop(data=tmp_path).client() as first:
        assert stdout(first, code, installPackages=["lasting"]) == "1\n"
    second = shop(data=tmp_path)
    with second.client() as again:
        assert stdout(again, code, installPackages=["lasting"]) == "1\n"
    assert index.fetched("lasting") == 1
    (layer,) = layers(tmp_path)
    (tmp_path / "layers" / layer / "tree" / "lasting.py").write_text("value = 666")
    third = shop(data=tmp_path)
    with third.client() as last:
        assert stdout(last, code, installPackages=["lasting"]) == "1\n"
    assert index.fetched("lasting") == 2
    assert "had been changed" in third.log_text()
