"""What ordinary programs do still works under the filter and the limits: processes, threads, event loops, workers."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.calls import stdout

PROGRAMS = {
    "subprocess": (
        "python",
        "import subprocess\nprint(subprocess.check_output('echo a | tr a b', shell=True))",
        "b'b\\n'\n",
    ),
    "posix_spawn": (
        "python",
        "import os\npid = os.posix_spawn('/bin/echo', ['echo', 'spawned'], os.environ); print(os.waitpid(pid, 0)[1])",
        "spawned\n0\n",
    ),
    "multiprocessing": (
        "python",
        (
            "import multiprocessing as mp\n"
            "if __name__ == '__main__':\n"
            "    for method in ('fork', 'spawn', 'forkserver'):\n"
            "        with mp.get_context(method).Pool(2) as pool: print(pool.map(abs, [-1, -2]))\n"
        ),
        "[1, 2]\n" * 3,
    ),
    "shared memory": (
        "python",
        (
            "from multiprocessing import Process, Lock, Value\n"
            "def add(total, lock):\n"
            "    for _ in range(100):\n"
            "        with lock: total.value += 1\n"
            "if __name__ == '__main__':\n"
            "    total, lock = Value('i', 0), Lock()\n"
            "    workers = [Process(target=add, args=(total, lock)) for _ in range(3)]\n"
            "    [w.start() for w in workers]; [w.join() for w in workers]; print(total.value)"
        ),
        "300\n",
    ),
    "threads": (
        "python",
        "from concurrent.futures import ThreadPoolExecutor\nprint(sum(ThreadPoolExecutor(8).map(abs, range(-50, 0))))",
        "1275\n",
    ),
    "asyncio": (
        "python",
        (
            "import asyncio\n"
            "async def main():\n"
            "    server = await asyncio.start_server(lambda r, w: (w.write(b'loop'), w.close()), '127.0.0.1', 0)\n"
            "    reader, _ = await asyncio.open_connection(*server.sockets[0].getsockname())\n"
            "    child = await asyncio.create_subprocess_exec('echo', 'child', stdout=-1)\n"
            "    print(await reader.read(), (await child.communicate())[0])\n"
            "asyncio.run(main())"
        ),
        "b'loop' b'child\\n'\n",
    ),
    "sqlite": (
        "python",
        (
            "import sqlite3\nd = sqlite3.connect('/sandbox/x.db'); d.execute('pragma journal_mode=wal')\n"
            "d.execute('create table t(x)'); d.execute('insert into t values (7)')\n"
            "print(d.execute('select * from t').fetchall())"
        ),
        "[(7,)]\n",
    ),
    "node worker_threads": (
        "node",
        (
            "const { Worker, isMainThread, parentPort } = require('worker_threads');\n"
            "if (isMainThread) new Worker(__filename).on('message', (m) => console.log('from', m));\n"
            "else parentPort.postMessage('worker')"
        ),
        "from worker\n",
    ),
    "node child_process and cluster": (
        "node",
        (
            "const cluster = require('cluster'), { execSync, fork } = require('child_process');\n"
            "if (cluster.isPrimary) { console.log(execSync('echo child').toString().trim());\n"
            "  cluster.fork().on('exit', (code) => console.log('worker ended', code)) } else process.exit(3)"
        ),
        "child\nworker ended 3\n",
    ),
    "node http": (
        "node",
        (
            "const http = require('http'); const s = http.createServer((q, r) => r.end('served')).listen(0, () =>\n"
            "  http.get({ port: s.address().port }, (r) => r.on('data', (d) => { console.log(String(d)); s.close() })))"
        ),
        "served\n",
    ),
    "bun": (
        "bun",
        (
            "const s = Bun.serve({ port: 0, fetch: () => new Response('served') });\n"
            "console.log(await (await fetch(s.url)).text(), (await Bun.$`echo shell`.text()).trim()); s.stop()\n"
            "const w = new Worker(URL.createObjectURL(new Blob([`postMessage(2)`])));\n"
            "w.onmessage = (e) => { console.log(e.data); process.exit(0) }"
        ),
        "served shell\n2\n",
    ),
    "deno": (
        "deno",
        (
            "const s = Deno.serve({ port: 0, onListen() {} }, () => new Response('served'));\n"
            "console.log(await (await fetch(`http://127.0.0.1:${s.addr.port}`)).text()); await s.shutdown();\n"
            "const out = await new Deno.Command('echo', { args: ['child'] }).output();\n"
            "console.log(new TextDecoder().decode(out.stdout).trim());\n"
            "const w = new Worker(URL.createObjectURL(new Blob(['postMessage(2)'])), { type: 'module' });\n"
            "w.onmessage = (e) => { console.log(e.data); w.terminate() }"
        ),
        "served\nchild\n2\n",
    ),
    "bash": (
        "bash",
        (
            "coproc cat; echo hi >&${COPROC[1]}; read -r x <&${COPROC[0]}; echo $x\n"
            "diff <(echo a) <(echo a) && echo same\n"
            "ulimit -n 100 && ulimit -n; sleep 0 & wait $!; echo $?"
        ),
        "hi\nsame\n100\n0\n",
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_work(client: httpx.Client, require: Any, name: str) -> None:
    runtime, code, printed = PROGRAMS[name]
    require(runtime)
    assert stdout(client, code, runtime) == printed


@pytest.mark.slow
def test_numpy_and_pandas(client: httpx.Client, tmp_path: Path) -> None:
    """Compiled packages, with their threads and their ways of asking what the machine is."""
    target = tmp_path / "packages"
    install = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", str(target)]
    subprocess.run([*install, "--only-binary", ":all:", "--no-compile", "numpy", "pandas"], check=True)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
        archive.add(target, "packages", filter=lambda entry: None if "/tests" in entry.name else entry)
    code = (
        "import sys, tarfile\n"
        "tarfile.open('/sandbox/packages.tar.gz').extractall('/sandbox'); sys.path.insert(0, '/sandbox/packages')\n"
        "import numpy, pandas\n"
        "a = numpy.arange(1_000_000, dtype=float).reshape(1000, 1000)\n"
        "print(int((a @ a.T).trace() > 0), int(numpy.isclose(numpy.linalg.det(numpy.eye(50) * 2), 2**50)))\n"
        "frame = pandas.DataFrame({'k': list('abab'), 'v': [1, 2, 3, 4]}); frame.to_csv('/tmp/x.csv', index=False)\n"
        "print(pandas.read_csv('/tmp/x.csv').groupby('k').v.sum().to_dict())"
    )
    files = {"/sandbox/packages.tar.gz": {"base64": base64.b64encode(packed.getvalue()).decode()}}
    options = {"memoryLimit": "2g", "sandboxSize": "1g"}
    assert stdout(client, code, files=files, options=options) == "1 1\n{'a': 4, 'b': 6}\n"
