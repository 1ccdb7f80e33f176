"""What comes out of a program: whole, capped, decoded, masked."""

from __future__ import annotations

import httpx
import pytest

from tests.conftest import Serve
from tests.support import machine
from tests.support.calls import body, execute, stdout

MIB = 1 << 20
WRITE_SLOWLY = (
    "import os, time\n"
    "data = {data!r}\n"
    "for n in range(len(data)):\n"
    "    os.write({descriptor}, data[n:n + 1]); time.sleep(0.003)\n"
)


def test_stdout_is_not_trimmed(client: httpx.Client) -> None:
    assert stdout(client, "print('\\n  x  \\n\\n')") == "\n  x  \n\n\n"
    assert stdout(client, "print('x', end='')") == "x"


def test_just_under_the_default_cap(client: httpx.Client) -> None:
    result = execute(client, f"print('x' * {MIB - 1})")
    assert (len(result["stdout"]), result["truncated"]) == (MIB, False)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_over_the_default_cap(client: httpx.Client, stream: str) -> None:
    code = f"import sys\nsys.{stream}.write('ab' * {MIB})\nsys.{stream}.flush()\nopen('/tmp/ended', 'w').write('yes')"
    result = execute(client, code, outputPaths=["/tmp/ended"])
    assert result[stream] == "ab" * (MIB // 2)
    assert result["truncated"] is True
    assert result["exitCode"] == 0
    assert result["files"] == {"/tmp/ended": "eWVz"}
    assert result["stderr" if stream == "stdout" else "stdout"] == ""


def test_each_stream_has_its_own_cap(client: httpx.Client) -> None:
    code = "import sys; sys.stdout.write('o' * 1000); sys.stderr.write('e' * 1001)"
    result = execute(client, code, options={"maxOutputSize": "1000"})
    assert (result["stdout"], result["stderr"], result["truncated"]) == ("o" * 1000, "e" * 1000, True)
    result = execute(client, "import sys; sys.stdout.write('o' * 1000)", options={"maxOutputSize": "1000"})
    assert (result["stdout"], result["truncated"]) == ("o" * 1000, False)


def test_the_cap_does_not_invent_a_broken_character(client: httpx.Client) -> None:
    result = execute(client, "print('é' * 1000, end='')", options={"maxOutputSize": "1001"})
    assert result["truncated"]
    assert result["stdout"].rstrip("\N{REPLACEMENT CHARACTER}") == "é" * 500


def test_a_gigabyte_costs_the_server_a_bounded_amount(serve: Serve) -> None:
    running = serve()
    with running.client() as client:
        execute(client, "print('x' * 2_000_000)")
        before = {pid: machine.resident_bytes(pid) for pid in running.processes()}
        code = "import os\nblock = b'x' * 65536\nfor _ in range(16384): os.write(1, block)"
        result = execute(client, code)
        assert (len(result["stdout"]), result["truncated"], result["exitCode"]) == (MIB, True, 0)
        grown = {pid: machine.resident_bytes(pid) - size for pid, size in before.items()}
        assert max(grown.values()) < 64 * MIB, grown


def test_a_gigabyte_in_a_stream_is_bounded_too(serve: Serve) -> None:
    running = serve()
    code = "import os\nblock = b'x' * 65536\nfor _ in range(16384): os.write(1, block)"
    with running.client() as client:
        before = {pid: machine.resident_bytes(pid) for pid in running.processes()}
        answer = client.post("/execute/stream", json=body(code))
        assert len(answer.content) < 3 * MIB
        assert answer.text.rstrip().endswith('data: {"type":"exit","data":"0"}')
        grown = {pid: machine.resident_bytes(pid) - size for pid, size in before.items()}
        assert max(grown.values()) < 64 * MIB, grown


def test_what_is_not_utf_8(client: httpx.Client) -> None:
    code = "import os; os.write(1, b'a\\xffb\\xc3(c\\xed\\xa0\\x80'); os.write(2, b'\\xf0\\x9f')"
    result = execute(client, code)
    assert result["stdout"] == b"a\xffb\xc3(c\xed\xa0\x80".decode(errors="replace")
    assert result["stderr"] == "\N{REPLACEMENT CHARACTER}"


def test_nul_is_kept(client: httpx.Client) -> None:
    assert stdout(client, "print('a\\0b')") == "a\0b\n"


@pytest.mark.parametrize("descriptor", [1, 2])
def test_a_character_split_over_two_writes(client: httpx.Client, descriptor: int) -> None:
    text = "é🙂日本"
    result = execute(client, WRITE_SLOWLY.format(data=text.encode(), descriptor=descriptor))
    assert result["stdout" if descriptor == 1 else "stderr"] == text


def test_the_order_within_a_stream_is_kept(client: httpx.Client) -> None:
    code = "import sys\nfor n in range(20000): print(n)\nprint('end', file=sys.stderr)"
    assert execute(client, code)["stdout"] == "".join(f"{n}\n" for n in range(20000))


SECRETS = {"TOKEN": "s3cret-value", "LONGER": "s3cret-value-and-more", "PHRASE": "zwei Wörter"}


def test_secrets_are_variables_that_are_masked(client: httpx.Client) -> None:
    code = (
        "import os, sys\n"
        "print(len(os.environ['TOKEN']), os.environ['TOKEN'], 'x' + os.environ['LONGER'] + 'y')\n"
        "print(os.environ['PHRASE'], file=sys.stderr)"
    )
    result = execute(client, code, options={"secrets": SECRETS})
    assert (result["stdout"], result["stderr"]) == ("12 *** x***y\n", "***\n")


@pytest.mark.parametrize("descriptor", [1, 2])
def test_a_secret_split_over_writes(client: httpx.Client, descriptor: int) -> None:
    data = "before s3cret-value after, s3cret-val not all, zwei Wörter.".encode()
    result = execute(client, WRITE_SLOWLY.format(data=data, descriptor=descriptor), options={"secrets": SECRETS})
    expected = "before *** after, s3cret-val not all, ***."
    assert result["stdout" if descriptor == 1 else "stderr"] == expected


def test_a_secret_in_a_traceback(client: httpx.Client) -> None:
    code = "import os; raise ValueError('token ' + os.environ['TOKEN'])"
    result = execute(client, code, options={"secrets": SECRETS})
    assert "ValueError: token ***" in result["stderr"]
    assert "s3cret" not in result["stderr"]


def test_the_start_of_a_secret_at_the_end_is_not_held_back(client: httpx.Client) -> None:
    assert stdout(client, "print('s3cre', end='')", options={"secrets": SECRETS}) == "s3cre"


def test_a_secret_across_the_cap_is_not_shown_in_part(client: httpx.Client) -> None:
    code = "import os; print('x' * 995 + os.environ['TOKEN'], end='')"
    result = execute(client, code, options={"secrets": SECRETS, "maxOutputSize": "1000"})
    assert "s3cre" not in result["stdout"]


def test_an_empty_secret_masks_nothing(client: httpx.Client) -> None:
    assert stdout(client, "print('abc')", options={"secrets": {"EMPTY": ""}}) == "abc\n"


def test_secrets_are_not_logged(serve: Serve) -> None:
    running = serve()
    with running.client() as client:
        execute(client, "import os; print(os.environ['TOKEN'])", options={"secrets": {"TOKEN": "never-in-a-log"}})
        client.post("/execute", json=body("1", options={"secrets": {"TOKEN": "never-in-a-log", "X": 5}}))
    assert "never-in-a-log" not in running.log_text()
