"""Programs in real sandboxes of a real server: their way out, and that there is no other."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Serve
from tests.egress import world
from tests.egress.conftest import CONFIG, Surroundings
from tests.egress.messages import HOST, OTHER
from tests.egress.origins import Origins
from tests.support import machine
from tests.support.calls import events, execute, refused, upload
from tests.support.server import Server

Json = dict[str, Any]
RULE = HOST.replace(".", r"\.")
BUNDLE = "/sandbox/authorities.pem"


def options(*whitelist: str, **more: Any) -> Json:
    return {
        "network": "filtered",
        "networkFilter": {"whitelist": list(whitelist or (RULE,))},
        "logNetwork": True,
    } | more


def authorities(surroundings: Surroundings) -> Json:
    """The world's authority, for programs whose TLS the proxy leaves alone."""
    return {BUNDLE: surroundings.bundle.read_text()}


@pytest.fixture(autouse=True)
def _there(origins: Origins) -> None:
    """Every test has the hosts."""


@pytest.fixture
def require(filtering: Server, client: httpx.Client) -> Any:
    """Skips the test when a runtime is not installed."""
    ready = {entry["name"] for entry in client.get("/runtimes").json()["runtimes"] if entry["ready"]}

    def check(name: str) -> None:
        if name not in ready:
            pytest.skip(f"{name} is not installed")

    return check


_FETCH_JS = """
for (const url of ['http://%(host)s/echo/plain', 'https://%(host)s/echo/tls', 'http://%(other)s/echo']) {
  try { const r = await fetch(url); console.log(r.status, (await r.text()).toLowerCase().includes('host: %(host)s')) }
  catch (error) { console.log('failed', error.message, error.cause?.message ?? '') }
}
"""
FETCH = {
    "python": """
import urllib.request, urllib.error
for url in ('http://%(host)s/echo/plain', 'https://%(host)s/echo/tls', 'http://%(other)s/echo'):
    try:
        with urllib.request.urlopen(url, timeout=120) as answer:
            print(answer.status, 'Host: %(host)s' in answer.read().decode())
    except urllib.error.HTTPError as error: print(error.code, False)
""",
    "node": _FETCH_JS,
    "bun": _FETCH_JS,
    "deno": _FETCH_JS,
    "bash": """
for url in http://%(host)s/echo/plain https://%(host)s/echo/tls http://%(other)s/echo; do
  body=$(curl -sS -m 120 -w '%%{http_code}' "$url")
  grep -qi 'Host: %(host)s' <<<"$body" && echo "${body: -3}" True || echo "${body: -3}" False
done
""",
}


@pytest.mark.parametrize("language", FETCH)
def test_clients(
    client: httpx.Client, origins: Origins, surroundings: Surroundings, require: Any, language: str
) -> None:
    """The usual way of each language, with no more than the environment: plain HTTP, TLS, and what is forbidden."""
    require(language)
    trust = {"SSL_CERT_FILE": BUNDLE, "NODE_EXTRA_CA_CERTS": BUNDLE, "DENO_CERT": BUNDLE, "CURL_CA_BUNDLE": BUNDLE}
    code = FETCH[language] % {"host": HOST, "other": OTHER}
    more: Json = {"fileExtension": ".mjs"} if language == "node" else {}
    result = execute(client, code, language, files=authorities(surroundings), env=trust, options=options(), **more)
    assert (result["exitCode"], result["stderr"]) == (0, ""), result
    *allowed, blocked = result["stdout"].lower().splitlines()
    assert allowed == ["200 true", "200 true"]
    assert blocked.startswith("failed" if language == "node" else "403 false")  # node asks for tunnels alone
    told = {(entry["method"], entry["host"], entry["path"], entry["action"]) for entry in result["networkLogs"]}
    assert {("GET", HOST, "/echo/plain", "ALLOW"), ("CONNECT", HOST, None, "ALLOW")} <= told
    # Deno looks for a newer version of itself, if the program takes long enough.
    refusals = {(host, path) for _, host, path, action in told if action == "BLOCK" and host != "dl.deno.land"}
    assert refusals == {(OTHER, None if language == "node" else "/echo")}
    assert {seen.path for seen in origins.seen} == {"/echo/plain", "/echo/tls"}


def _zipped(*names: str) -> Json:
    """Packages of this environment as one archive that a program can import from."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            found = find_spec(name)
            assert found is not None
            assert found.origin is not None
            directory = Path(found.origin).parent
            for file in directory.rglob("*"):
                if file.suffix in (".py", ".pem"):
                    archive.write(file, file.relative_to(directory.parent))
    return {"/sandbox/packages.zip": {"base64": base64.b64encode(content.getvalue()).decode()}}


def test_requests_and_its_sessions(client: httpx.Client, origins: Origins, surroundings: Surroundings) -> None:
    code = (
        "import sys; sys.path.insert(0, '/sandbox/packages.zip')\n"
        "import requests\n"
        "with requests.Session() as session:\n"
        f"    for path in ('1', '2'): print(session.get('http://{HOST}/echo/' + path, timeout=120).status_code)\n"
        f"    print(session.get('https://{HOST}/echo/3', timeout=120).status_code)\n"
        f"    print(session.post('http://{HOST}/echo/4', data=b'\x01' * 100000).text.count('\x01'))\n"
    )
    files = _zipped("requests", "urllib3", "certifi", "idna", "charset_normalizer") | authorities(surroundings)
    result = execute(client, code, files=files, env={"REQUESTS_CA_BUNDLE": BUNDLE}, options=options())
    assert (result["stdout"], result["exitCode"]) == ("200\n200\n200\n100000\n", 0), result
    assert origins.connections.count((world.PUBLIC, 80)) == 1


def test_the_log(client: httpx.Client, filtering: Server) -> None:
    """What networkLogs says of each request, that nothing is there unless it was asked for, and the audit log."""
    code = f"import os; os.system('curl -s http://{HOST}/echo/logged?key=confidential http://{OTHER}/ >/dev/null')"
    (allowed, blocked) = execute(client, code, options=options())["networkLogs"]
    rule = "the host matches nothing in options.networkFilter.whitelist"
    assert set(allowed) == {"timestamp", "method", "host", "port", "path", "action", "bytes", "durationMs"}
    assert (allowed["path"], allowed["action"], allowed["port"]) == ("/echo/logged", "ALLOW", 80)
    assert allowed["bytes"] > 100
    assert (blocked["host"], blocked["action"], blocked["rule"], blocked["bytes"]) == (OTHER, "BLOCK", rule, 0)
    assert execute(client, "1", options=options())["networkLogs"] == []
    assert "networkLogs" not in execute(client, code, options=options(logNetwork=False))
    without = execute(client, "1", options={"logNetwork": True})
    assert "networkLogs" not in without
    assert without["warnings"] == ["options.logNetwork has no effect"]
    log = filtering.log_text()
    assert '"path":"/echo/logged","action":"ALLOW"' in log
    assert "confidential" not in log


def test_the_stream(client: httpx.Client) -> None:
    code = f"import urllib.request; print(urllib.request.urlopen('http://{HOST}/echo').status)"
    sent = {"request": {"code": code, "runtime": "python"}, "options": options()}
    assert events(client, sent) == [{"type": "stdout", "data": "200\n"}, {"type": "exit", "data": "0"}]


def test_the_environment_only_when_filtered(client: httpx.Client) -> None:
    """Both spellings, package installers', and what the request sets itself wins."""
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    filtered = json.loads(execute(client, code, env={"HTTPS_PROXY": "mine"}, options=options())["stdout"])
    names = {"http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY", "PIP_PROXY", "npm_config_proxy"}
    assert {filtered[name] for name in names} == {"http://127.0.0.1:3128"}
    assert filtered["HTTPS_PROXY"] == "mine"
    assert not any("CERT" in name or "BUNDLE" in name for name in filtered)
    plain = json.loads(execute(client, code)["stdout"])
    assert not [name for name in plain if "proxy" in name.lower()]


def test_nothing_is_allowed_by_itself(client: httpx.Client, origins: Origins) -> None:
    code = f"import os; os.system('curl -s http://{HOST}/')"
    several: tuple[Json, ...] = ({}, {"networkFilter": {}}, {"networkFilter": {"whitelist": [], "blacklist": ["x"]}})
    for filters in several:
        told = execute(client, code, options={"network": "filtered", "logNetwork": True} | filters)
        assert "nothing is allowed (networkFilter.whitelist)" in told["stdout"]
    assert origins.asked == []


def test_a_servers_own_lists(serve: Serve, surroundings: Surroundings, origins: Origins) -> None:
    """They bound what requests allow themselves, and are what those get that say nothing."""
    network = {"whitelist": [r".*\.example\.com"], "blacklist": [r"other\..*"]}
    config = CONFIG | {"network": CONFIG["network"] | network}  # type: ignore[operator]
    origins.zone["evil.example.org"] = [world.OTHER]
    running = serve(config, wrapper=surroundings.wrapper, environment=surroundings.environment)
    code = f"for h in {HOST} {OTHER} evil.example.org; do curl -s -o /dev/null -w '%{{http_code}} ' http://$h/; done"
    with running.client() as client:
        assert execute(client, code, "bash", options={"network": "filtered"})["stdout"] == "200 403 403 "
        assert execute(client, code, "bash", options=options(".*"))["stdout"] == "200 403 403 "
        assert execute(client, code, "bash", options=options("nothing"))["stdout"] == "403 403 403 "


BYPASS = """
import json, socket, sys
told = {}
def tell(name, attempt):
    try: told[name] = repr(attempt())
    except OSError as error: told[name] = error.errno or str(error)
def tcp(address, port):
    with socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET) as probe:
        probe.settimeout(5); probe.connect((address, port)); return 'connected'
def udp(address, port):
    with socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return probe.sendto(b'out', (address, port))
for address in %(addresses)r:
    tell('tcp ' + address, lambda: tcp(address, 80))
    tell('udp ' + address, lambda: udp(address, 53))
for kind in (socket.SOCK_RAW,):
    tell('raw', lambda: socket.socket(socket.AF_INET, kind, 1))
    tell('packet', lambda: socket.socket(socket.AF_PACKET, kind, 0x300))
tell('name', lambda: socket.getaddrinfo(%(host)r, 80))
ports = (53, 80, 443, 3000, 3127, 3129, 8080)
tell('other ports', lambda: [port for port in ports if socket.socket().connect_ex(('127.0.0.1', port)) == 0])
tell('six', lambda: tcp('::1', 3128))
tell('names', lambda: socket.if_nameindex())
print(json.dumps(told))
"""


def test_there_is_no_other_way(client: httpx.Client, origins: Origins) -> None:
    """No UDP, no raw packets, no names, no direct connection, no IPv6: with the proxy open, and without it in use."""
    addresses = (world.PUBLIC, world.PUBLIC_6, world.NAMES, world.MACHINE, world.WORLD, "10.1.2.3", "169.254.169.254")
    code = BYPASS % {"addresses": addresses, "host": HOST}
    told = json.loads(execute(client, code, options=options(".*"))["stdout"])
    for address in addresses:
        assert told[f"tcp {address}"] == told[f"udp {address}"] == 101, told  # ENETUNREACH
    assert told["raw"] == 1
    assert told["packet"] in (1, 93, 97)
    assert told["name"] == -3  # EAI_AGAIN
    assert told["other ports"] == "[]"
    assert told["six"] == 111
    assert told["names"] == "[(1, 'lo')]"
    assert (origins.seen, origins.asked, origins.connections) == ([], [], [])


def test_redirects(client: httpx.Client, origins: Origins) -> None:
    """A host that is allowed may send a client anywhere; it gets no further than if it had gone by itself."""
    places = (
        f"http://{OTHER}/",
        "http://169.254.169.254/latest",
        "http://2130706433/",
        f"https://{OTHER}/",
        "http://192.0.2.1/",
    )
    code = "".join(
        f"curl -sLk --noproxy '' -m 120 -w ' %{{http_code}}/%{{http_connect}}\\n' http://{HOST}/redirect/{place}\n"
        for place in places
    )
    result = execute(client, code, "bash", options=options())
    assert result["stdout"].count("blocked by the network policy") == 4, result
    assert result["stdout"].count("403") == len(places), result
    assert {seen.host for seen in origins.seen} == {world.PUBLIC}
    assert origins.asked.count(OTHER) == 0


def test_a_bound_secret(client: httpx.Client, origins: Origins, require: Any) -> None:
    """The program has a placeholder, its host the value, and every language trusts the proxy's authority."""
    value = "sk-0123456789-very-secret"
    secrets = {"API_KEY": {"value": value, "hosts": [HOST]}, "PLAIN": "masked-value"}
    programs = {
        "bash": f'curl -sS -H "Authorization: Bearer $API_KEY" https://{HOST}/echo/sh; echo "[$API_KEY]" $PLAIN',
        "python": "import os, urllib.request as u\n"
        "key = os.environ['API_KEY']; fields = {'Authorization': 'Bearer ' + key}\n"
        f"print(u.urlopen(u.Request('https://{HOST}/echo/python', headers=fields)).read().decode())\n"
        "print(f'[{key}]', os.environ['PLAIN'])",
    }
    script = (
        "const headers = {Authorization: 'Bearer ' + process.env.API_KEY};\n"
        f"console.log(await (await fetch('https://{HOST}/echo/js', {{headers}})).text());\n"
        "console.log(`[${process.env.API_KEY}]`, process.env.PLAIN)"
    )
    programs |= {"node": script, "bun": script, "deno": script.replace("process.env.", "globalThis.process.env.")}
    for language, code in programs.items():
        require(language)
        origins.clear()
        more: Json = {"fileExtension": ".mjs"} if language == "node" else {}
        result = execute(client, code, language, options=options(secrets=secrets), **more)
        assert (result["exitCode"], result["stderr"]) == (0, ""), (language, result)
        assert value not in json.dumps(result)
        assert f"Bearer {'*' * len(value)}" in result["stdout"], (language, result)
        assert "[isol8-secret-" in result["stdout"]
        assert "***\n" in result["stdout"]
        assert origins.seen[0].fields["authorization"] == f"Bearer {value}"


def test_a_bound_secret_is_nowhere_in_the_sandbox(client: httpx.Client, filtering: Server, origins: Origins) -> None:
    value = "sk-nowhere-to-be-found-4711"
    code = (
        "import os, re, urllib.request as u\n"
        f"u.urlopen(u.Request('https://{HOST}/pieces', headers={{'X-Key': os.environ['KEY']}})).read()\n"
        "found = []\n"
        "for line in open('/proc/self/maps'):\n"
        "    start, end = (int(a, 16) for a in line.split()[0].split('-'))\n"
        "    if 'r' not in line.split()[1] or '[v' in line: continue\n"
        "    with open('/proc/self/mem', 'rb', 0) as memory:\n"
        "        memory.seek(start)\n"
        "        try: data = memory.read(end - start)\n"
        "        except OSError: continue\n"
        "        found += re.findall(b'sk-nowhere-to-be-' + b'found-[0-9]+', data)\n"
        "print(found, value if (value := os.environ['KEY']).startswith('isol8-secret-') else 'no')"
    )
    sent = options(secrets={"KEY": {"value": value, "hosts": [HOST]}})
    result = execute(client, code, options=sent)
    assert result["stdout"].startswith("[] isol8-secret-"), result
    assert origins.seen[0].fields["x-key"] == value
    assert value not in filtering.log_text()


def test_sessions(client: httpx.Client, origins: Origins, session: str) -> None:
    """Each call has its own rules, and the way out is closed between calls."""
    fetch = f"for h in {HOST} {OTHER}; do curl -s -o /dev/null -w '%{{http_code}} ' http://$h/; done"
    background = (
        f"(until [ -e go ]; do sleep 0.05; done; while sleep 0.05; do curl -s -m 5 http://{HOST}/background;"
        " echo x >>tried; done) >/dev/null 2>&1 &"
    )
    first = execute(client, f"{fetch}\n{background}", "bash", sessionId=session, options=options())
    assert first["stdout"] == "200 403 "
    assert [entry["action"] for entry in first["networkLogs"]] == ["ALLOW", "BLOCK"]
    assert upload(client, session, "/sandbox/go", b"").status_code == 200

    def tried() -> int:
        return len(execute(client, "cat tried", "bash", sessionId=session)["stdout"])

    machine.until(lambda: tried() > 5, "it tries while nothing is executed, too")
    second = execute(client, fetch, "bash", sessionId=session, options=options(OTHER.replace(".", r"\.")))
    assert second["stdout"] == "403 200 "
    assert client.get("/sessions").json()["sessions"]
    assert not [seen for seen in origins.seen if seen.path == "/background"]
    refused(
        client,
        409,
        {"request": {"cmd": "true"}, "sessionId": session, "options": {"network": "none"}},
        mentions="network",
    )
    third = execute(client, "echo still there", "bash", sessionId=session)  # the network stays, and nothing is allowed
    assert third["stdout"] == "still there\n"


TAKE_THE_PORT = """
import os, socket, time
if os.fork() == 0:
    os.setsid()
    while True:
        taken = socket.socket()
        try:
            taken.bind(('127.0.0.1', 3128)); taken.listen(); time.sleep(3600); break
        except OSError: taken.close(); time.sleep(0.01)
"""


def test_a_port_that_is_taken(client: httpx.Client, session: str) -> None:
    """A program that stays behind in a session can take the proxy's port between calls, to its own harm."""
    execute(client, TAKE_THE_PORT, sessionId=session, options=options())
    sent = {"request": {"cmd": "true"}, "sessionId": session, "options": options()}

    def conflict() -> Json | None:
        answer = client.post("/execute", json=sent)
        assert answer.status_code in (200, 409), answer.text
        return answer.json() if answer.status_code == 409 else None

    assert "port 3128" in machine.until(conflict, "a conflict")["error"]


def test_nothing_is_left(client: httpx.Client, filtering: Server, origins: Origins) -> None:
    """After programs that hold their connections, are killed, or run out of time."""
    proxy = _proxy_pid(filtering)
    execute(client, f"curl -s http://{HOST}/", "bash", options=options())  # what it opens once is open now
    machine.until(lambda: not _network_sockets(proxy), "gates of earlier tests are closed")
    before = machine.descriptors(proxy)
    for cmd in (
        f"curl -s http://{HOST}/hang",
        f"curl -s http://{HOST}/hang & exit 0",
        f"for i in 1 2 3; do curl -s http://{HOST}/hang & done; wait",
    ):
        execute(client, cmd, "bash", options=options(timeoutMs=500))
    with client.stream(
        "POST", "/execute/stream", json={"request": {"cmd": f"echo on; curl http://{HOST}/hang"}, "options": options()}
    ) as answer:
        next(answer.iter_raw())
    machine.until(
        lambda: len(machine.descriptors(proxy)) <= len(before) and not _network_sockets(proxy),
        lambda: str(machine.descriptors(proxy)),
    )


def _network_sockets(pid: int) -> set[str]:
    """Those sockets of a process that are not of this machine alone; a proxy that is idle has none."""
    local = {line.split()[6] for line in Path("/proc/net/unix").read_text().splitlines()[1:]}
    sockets = {name for name in machine.descriptors(pid) if name.startswith("socket:[")}
    return {name for name in sockets if name[len("socket:[") : -1] not in local}


def _proxy_pid(server: Server) -> int:
    (found,) = {pid for pid in machine.proxies(server.pid) if machine.parent(pid) == server.pid}
    return found


def test_the_proxy_dies(serve: Serve, surroundings: Surroundings, origins: Origins) -> None:
    """It is started again; what ran meanwhile ends as it would, and nothing gets out in between."""
    running = serve(CONFIG, wrapper=surroundings.wrapper, environment=surroundings.environment)
    with running.client() as client:
        code = f"import os; os.system('curl -s -o /dev/null -w %{{http_code}} http://{HOST}/')"
        assert execute(client, code, options=options())["stdout"] == "200"
        first = _proxy_pid(running)
        os.kill(first, signal.SIGKILL)
        machine.until(lambda: machine.proxies(running.pid) - {first}, "another")
        assert execute(client, code, options=options())["stdout"] == "200"


@pytest.mark.parametrize(
    ("sent", "status", "mentions"),
    [
        ({"networkFilter": {"whitelist": ["("]}}, 400, "networkFilter.whitelist[0] is not a regular expression"),
        ({"networkFilter": {"whitelist": ["a", "(?=b)"]}}, 400, "options.networkFilter.whitelist[1]"),
        ({"networkFilter": {"blacklist": [r"(a)\1"]}}, 400, "options.networkFilter.blacklist[0]"),
        ({"networkFilter": {"blacklist": ["((a{100}){100}){100}"]}}, 400, "options.networkFilter.blacklist[0]"),
        ({"networkFilter": {"whitelist": ["x" * 513]}}, 400, "options.networkFilter.whitelist[0]"),
        ({"networkFilter": {"whitelist": [""]}}, 400, "options.networkFilter.whitelist[0]"),
        ({"networkFilter": {"whitelist": [7]}}, 400, "options.networkFilter.whitelist[0] must be a string"),
        ({"networkFilter": {"whitelist": "a"}}, 400, "options.networkFilter.whitelist must be a list"),
        ({"networkFilter": {"whitelst": ["a"]}}, 400, "did you mean whitelist"),
        ({"networkFilter": {"whitelist": ["a"] * 60, "blacklist": ["b"] * 60}}, 403, "policy.maxNetworkRules"),
        ({"network": "host"}, 403, "policy.networks"),
        ({"network": "none", "secrets": {"K": {"value": "longenough", "hosts": ["a"]}}}, 400, "secrets.K has hosts"),
        ({"secrets": {"K": {"value": "long enough", "hosts": []}}}, 400, "options.secrets.K"),
        ({"secrets": {"K": {"value": "long enough", "hosts": ["a b"]}}}, 400, "secrets.K.hosts[0] is not a host"),
        ({"secrets": {"K": {"value": "long enough", "hosts": ["0x7f.1"]}}}, 400, "options.secrets.K.hosts[0]"),
        ({"secrets": {"K": {"value": "long\r\nX: enough", "hosts": ["a.b"]}}}, 400, "options.secrets.K must have"),
        ({"secrets": {"K": {"value": "short", "hosts": ["a.b"]}}}, 400, "options.secrets.K must have 8"),
        ({"secrets": {"K": {"value": "long enough"}}}, 400, "options.secrets.K must be a string, or"),
        ({"secrets": {"K": 5}}, 400, "options.secrets.K must be a string"),
        ({"secrets": {"A=B": {"value": "long enough", "hosts": ["a.b"]}}}, 400, "options.secrets has a name"),
    ],
)  # fmt: skip
def test_what_is_refused(client: httpx.Client, sent: Json, status: int, mentions: str) -> None:
    body = {"request": {"code": "1", "runtime": "python"}, "options": {"network": "filtered"} | sent}
    refused(client, status, body, mentions=mentions)


def test_patterns_that_take_others_long(client: httpx.Client) -> None:
    """Matching takes time in proportion to the name's length, whatever the pattern."""
    host = "a" * 60 + "." + "a" * 60 + ".com"
    whitelist = ["(a|a?)+" * 40 + "b", "(a+)+$b", "(.*.*.*.*){60}b", r"(?:a+\.?)+b"]
    result = execute(client, f"import os; os.system('curl -s http://{host}/')", options=options(*whitelist))
    assert "matches nothing" in result["stdout"]
    assert result["networkLogs"][0]["durationMs"] < 60_000


def test_a_server_without_it(serve: Serve) -> None:
    """It is not allowed unless the policy says so; where no packages are allowed either, there is no proxy."""
    running = serve({"pool": CONFIG["pool"], "policy": {"packages": False}})
    with running.client() as client:
        body = {"request": {"code": "1", "runtime": "python"}, "options": {"network": "filtered"}}
        refused(client, 403, body, mentions='options.network "filtered" is not among what this server allows')
    assert not machine.running("isol8.egress.process") & machine.descendants(running.pid)
