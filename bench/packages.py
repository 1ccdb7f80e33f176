"""What packages cost that are there already: over a plain hello, and, imported ahead of time, beside bare Python."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.bare import time_spawn
from bench.connection import AnswerFailed, Connection, check_hello, post
from bench.figures import paired_ratio, summarise
from bench.paced import Timed, in_turn, timed
from bench.results import Packages
from bench.setting import Setting
from isol8.config import load_config
from tests.support import machine
from tests.support.server import Server

# Nothing becomes a template by itself: every call but the first finds what the second one of all does.
_CONFIG: dict[str, Any] = {
    "packages": {"demandedTemplates": 0},
    "templates": {"pandas": {"runtime": "python", "packages": ["pandas"], "preimport": ["pandas"]}},
}
_HELLO = "print('hello')"
_PANDAS = f"import pandas; {_HELLO}"
_AHEAD = "import sys; print('hello' if 'pandas' in sys.modules else 'not yet')"
_BUILT_S = 300  # from the index, over whatever line there is
_REST_S = 0.8  # in which another sandbox is made and imports pandas, so that this does not slow down what comes next


def measure(setting: Setting) -> Packages:
    """With Python's numpy and pandas, from the machine's index; what is not there is installed before."""
    with setting.serving(**_CONFIG) as server, Connection(server) as connection:
        machine.until(lambda: "template pandas is ready" in server.log_text(), "a template with pandas", _BUILT_S)

        def hello(code: str, *packages: str) -> Callable[[], object]:
            request = _request(server, code, packages)
            return lambda: check_hello(connection.call(request))

        with_numpy = hello(_HELLO, "numpy")
        with_numpy()  # it may have to be installed
        plain, numpy = in_turn([timed(hello(_HELLO)), timed(with_numpy)], max(2, setting.sizes.pairs // 3))
        machine.until(lambda: _succeeds(hello(_AHEAD, "pandas")), "a sandbox that has imported pandas", _BUILT_S)
        command = _bare(setting, _version(connection, server))

        def imported_ahead() -> float:
            with Connection(server) as fresh:  # by now the server may have closed one that it has not heard from
                return timed(lambda: check_hello(fresh.call(request)))()

        request = _request(server, _PANDAS, ("pandas",))
        kinds = [_rested(imported_ahead), _rested(lambda: time_spawn(command))]
        pandas, bare = in_turn(kinds, max(2, setting.sizes.pairs // 30), warm_up=1)
    found = Packages(
        plain=summarise(plain),
        numpy=summarise(numpy),
        numpy_more_ms=round(summarise(numpy)["p50"] - summarise(plain)["p50"], 3),
        pandas=summarise(pandas),
        pandas_bare=summarise(bare),
        pandas_ratio=paired_ratio(pandas, bare, 50, of=50),
    )
    setting.say(
        f"packages: hello with numpy there p50 {found['numpy']['p50']:.2f} ms, plain {found['plain']['p50']:.2f} ms;"
        f" pandas imported ahead p50 {found['pandas']['p50']:.1f} ms, bare {found['pandas_bare']['p50']:.1f} ms: ratio"
        f" {found['pandas_ratio']['value']:.3f}"
    )
    return found


def _request(server: Server, code: str, packages: tuple[str, ...]) -> bytes:
    asked: dict[str, Any] = {"installPackages": packages} if packages else {}
    return post(server, "/execute", {"request": {"code": code, "runtime": "python", **asked}})


def _succeeds(call: Callable[[], object]) -> bool:
    try:
        call()
    except AnswerFailed:
        return False
    return True


def _version(connection: Connection, server: Server) -> str:
    answer = connection.call(_request(server, "import pandas; print(pandas.__version__, end='')", ("pandas",)))
    return bytes(answer).partition(b'"stdout":"')[2].partition(b'"')[0].decode()


def _bare(setting: Setting, version: str) -> list[str]:
    """Bare Python with the very files that sandboxes have; it must not add to them."""
    trees = Path(load_config(None).data_dir).expanduser().glob(f"layers/*/tree/pandas-{version}.dist-info")
    tree = str(next(trees).parent)
    executable = setting.installed["python"].executable
    return [executable, "-I", "-B", "-c", f"import sys; sys.path.insert(0, {tree!r}); {_PANDAS}"]


def _rested(call: Timed) -> Timed:
    def measure() -> float:
        time.sleep(_REST_S)
        return call()

    return measure
