"""What a request body may be, and the sentence that says what is wrong with one."""

from __future__ import annotations

import json
import posixpath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isol8.config import Config
from isol8.errors import Forbidden, InvalidRequest
from isol8.service.policy import to_command
from isol8.sizes import format_size, parse_size
from isol8.wire.checks import writable_path
from isol8.wire.request import DownloadQuery, ExecuteBody, UploadBody, parse, parse_values
from isol8.wire.schemas import json_schemas
from isol8.wire.strict import known_fields


def list_names(parent: str) -> list[str]:
    """The fields of one object of a body."""
    return [name for owner, name in known_fields(ExecuteBody) if owner == parent]


def body(**parts: Any) -> bytes:
    options = parts.pop("options", None)
    tree: dict[str, Any] = {"request": {"code": "1", "runtime": "python"} | parts}
    return json.dumps(tree if options is None else tree | {"options": options}).encode()


def sentence(content: bytes) -> str:
    with pytest.raises(InvalidRequest) as raised:
        parse(ExecuteBody, content)
    assert "\n" not in raised.value.message
    return raised.value.message


def test_all_fields() -> None:
    parsed = parse(
        ExecuteBody,
        body(
            timeoutMs=5,
            env={"A_1": "x"},
            stdin="in",
            files={
                "/sandbox/a//b/./c": "é",
                "/tmp/x": {"base64": "AP8="},
                "/tmp/y": {"type": "Buffer", "data": [0, 255]},
            },
            outputPaths=["/sandbox/out/"],
            installPackages=[],
            workdir="deep",
            fileExtension="mjs",
            metadata={"who": "me"},
            options={"cpuLimit": 1, "memoryLimit": "64M", "tmpSize": 4096, "network": "none", "secrets": {"S": "s"}},
        ),
    )
    assert parsed.request.files == {"/sandbox/a/b/c": "é".encode(), "/tmp/x": b"\0\xff", "/tmp/y": b"\0\xff"}
    assert (parsed.request.output_paths, parsed.request.workdir) == (["/sandbox/out"], "/sandbox/deep")
    assert parsed.request.file_extension == ".mjs"
    assert parsed.options is not None
    assert (parsed.options.cpu_limit, parsed.options.memory_limit, parsed.options.tmp_size) == (1.0, 1 << 26, 4096)


def test_null_is_absent() -> None:
    parsed = parse(
        ExecuteBody, b'{"request":{"code":"1","runtime":"python","stdin":null},"options":null,"sessionId":null}'
    )
    assert (parsed.request.stdin, parsed.options, parsed.session_id) == (None, None, None)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "The body is not valid JSON"),
        (b"{", "The body is not valid JSON"),
        (b"\xff", "The body is not valid JSON"),
        (b"[]", "The body must be an object"),
        (b"null", "The body must be an object"),
        (b"{}", "request is required"),
        (b'{"request":3}', "request must be an object"),
        (b'{"request":{"runtime":"python"}}', "request must have exactly one of code, cmd and codeUrl"),
        (b'{"request":{"code":"1"}}', "request must have a runtime"),
        (b'{"request":{"code":"1","runtime":"python"},"option":{}}', "Unknown field option; did you mean options?"),
        (b'{"request":{"code":"1","runtime":"python"},"sessionId":"a b"}', "sessionId must be 1 to 128"),
        (b'{"request":{"code":"\\ud800","runtime":"python"}}', "The body is not valid JSON"),
        (body(code=""), "request must have a source that is not empty"),
        (body(cmd="ls"), "request must have exactly one of code, cmd and codeUrl"),
        (body(code=3), "request.code must be a string"),
        (body(timeoutMs=0), "request.timeoutMs must be greater than 0"),
        (body(timeoutMs=-1), "request.timeoutMs must be greater than 0"),
        (body(timeoutMs="5"), "request.timeoutMs must be an integer"),
        (body(timeoutMs=True), "request.timeoutMs must be an integer"),
        (body(timeoutMs=1.5), "request.timeoutMs must be an integer"),
        (body(timeoutMS=1), "Unknown field request.timeoutMS; did you mean timeoutMs?"),
        (body(memoryLimit="1m"), "Unknown field request.memoryLimit; did you mean options.memoryLimit?"),
        (body(options={"memorylimit": "1m"}), "Unknown field options.memorylimit; did you mean memoryLimit?"),
        (body(**{"qqqqqqq\nqq": 1}), "Unknown field request.qqqqqqq?qq"),
        (body(env={"A B": "x"}), "request.env has a name that is not letters"),
        (body(env={"A": "x\0"}), "request.env has a NUL character in A"),
        (body(env={"A": 1}), "request.env.A must be a string"),
        (body(env={"A": "x" * 200_000}), "request.env has too long a value in A"),
        (body(env=[]), "request.env must be an object"),
        (body(files={"data.csv": ""}), "request.files.data.csv must be an absolute path"),
        (body(files={"/etc/passwd": ""}), "request.files./etc/passwd must be a path inside /sandbox or /tmp"),
        (body(files={"/sandbox/../etc": ""}), 'request.files./sandbox/../etc must not contain ".."'),
        (body(files={"/sandbox": ""}), "must be a path inside"),
        (body(files={"/sandboxes/a": ""}), "must be a path inside"),
        (body(files={"/sandbox/\0": ""}), "must not contain a NUL character"),
        (body(files={"/sandbox/" + "x" * 256: ""}), "is too long a path"),
        (body(files={"/sandbox/a": 1}), "request.files./sandbox/a must be text"),
        (body(files={"/sandbox/a": {"base64": "*"}}), "request.files./sandbox/a is not base64"),
        (body(files={"/sandbox/a": {"type": "Buffer", "data": [256]}}), "numbers from 0 to 255"),
        (body(files={"/sandbox/a": {"type": "Buffer", "data": "x"}}), "list of numbers"),
        (body(outputPaths="x"), "request.outputPaths must be a list"),
        (body(outputPaths=["x"]), "request.outputPaths[0] must be an absolute path"),
        (body(workdir="/tmp"), "request.workdir must be inside /sandbox"),
        (body(fileExtension="/../x"), "request.fileExtension must be a file name's ending"),
        (body(codeHash="0"), "request must have a codeUrl when it has a codeHash"),
        (body(options={"memoryLimit": "lots"}), 'options.memoryLimit must be a size like "512m"'),
        (body(options={"memoryLimit": "0"}), "options.memoryLimit must be greater than 0"),
        (body(options={"tmpSize": -1}), "options.tmpSize must be greater than 0"),
        (body(options={"cpuLimit": 0}), "options.cpuLimit must be greater than 0"),
        (body(options={"cpuLimit": "1"}), "options.cpuLimit must be a number"),
        (body(options={"network": "lan"}), "options.network must be one of none, filtered, host"),
        (body(options={"secrets": {"S": 1}}), "options.secrets.S must be a string"),
    ],
)
def test_what_is_wrong_is_named(content: bytes, expected: str) -> None:
    assert expected in sentence(content)


def test_a_command_needs_no_runtime() -> None:
    assert parse(ExecuteBody, b'{"request":{"cmd":"ls"}}').request.cmd == b"ls"


def test_options_without_effect_are_listed() -> None:
    options = parse(ExecuteBody, body(options={"debug": False, "persist": True, "poolSize": {"clean": 1}})).options
    assert options is not None
    assert options.without_effect() == ["poolSize", "persist", "debug"]


def test_an_upload() -> None:
    upload = parse(UploadBody, b'{"sessionId":"s","path":"/tmp/a","content":"AP8="}')
    assert upload.content == b"\0\xff"
    with pytest.raises(InvalidRequest, match="content is not base64"):
        parse(UploadBody, b'{"sessionId":"s","path":"/tmp/a","content":"\xc3\xa9"}')
    with pytest.raises(InvalidRequest, match="path is required"):
        parse(UploadBody, b'{"sessionId":"s","content":""}')


def test_a_query() -> None:
    assert parse_values(DownloadQuery, {"sessionId": "s", "path": "/tmp//a"}).path == "/tmp/a"
    with pytest.raises(InvalidRequest, match="path must be an absolute path"):
        parse_values(DownloadQuery, {"sessionId": "s", "path": "a"})


@given(st.integers(min_value=1, max_value=(1 << 63) - 1))
def test_sizes_read_as_they_are_written(size: int) -> None:
    assert parse_size(format_size(size)) == size
    assert parse_size(str(size)) == parse_size(size) == size


@given(st.integers(min_value=1, max_value=999), st.sampled_from("bkmgtBKMGT"))
def test_units_are_powers_of_1024(number: int, unit: str) -> None:
    assert parse_size(f" {number}{unit} ") == number * 1024 ** "bkmgt".index(unit.lower())


@pytest.mark.parametrize(
    "value", ["", "m", "1.5g", "-1", "1mm", "1 m", "٣", None, 1.0, True, 0, -1, "0k", "9" * 18 + "t"]
)
def test_what_is_no_size(value: object) -> None:
    with pytest.raises(ValueError, match=r"^(must be|is)"):
        parse_size(value)


def test_every_type_has_a_schema() -> None:
    schemas = json_schemas()
    assert {"ExecuteBody", "ExecutionRequest", "ExecutionOptions", "ResultAnswer", "Problem"} <= schemas.keys()
    assert "timeoutMs" in schemas["ExecutionRequest"]["properties"]


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["python", "none", "512m", "/sandbox/x", "../x", "\0", "YQ==", ".mjs", "A"]),
)
NAMES = st.one_of(
    st.sampled_from(sorted({name for _, name in known_fields(ExecuteBody)} | {"base64", "type", "data", "/sandbox/x"})),
    st.text(max_size=5),
)
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=15
)
# So that fields are often where they belong, and often hold what they must not.
BODIES = st.fixed_dictionaries(
    {"request": st.dictionaries(st.sampled_from(list_names("request")), TREES, max_size=5) | TREES},
    optional={
        "options": st.dictionaries(st.sampled_from(list_names("options")), TREES, max_size=5) | TREES,
        "sessionId": TREES,
    },
)


@settings(max_examples=200)
@given(BODIES | TREES)
def test_any_json_is_a_request_or_refused_in_one_sentence(tree: Any) -> None:
    """And what is a request is one that this server's policy makes a command of, or refuses in one sentence."""
    sentence = ""
    try:
        to_command(parse(ExecuteBody, json.dumps(tree).encode()), Config())
    except (InvalidRequest, Forbidden) as error:
        sentence = error.message
    if sentence:
        assert sentence.isprintable()
        assert len(sentence) < 700
    else:
        assert isinstance(tree, dict)
        assert len([name for name in ("code", "cmd", "codeUrl") if tree["request"].get(name) is not None]) == 1


@given(st.binary(max_size=60))
def test_any_bytes_are_a_request_or_refused(content: bytes) -> None:
    for model in (ExecuteBody, UploadBody):
        with pytest.raises(InvalidRequest):
            parse(model, content)


@given(st.text(max_size=30))
def test_any_text_is_a_path_in_the_sandbox_or_none(text: str) -> None:
    try:
        path = writable_path(text)
    except ValueError:
        return
    assert path.startswith(("/sandbox/", "/tmp/"))
    assert posixpath.normpath(path) == path
    assert "\0" not in path


@given(st.lists(st.sampled_from(["..", ".", "", "sandbox", "tmp", "etc", "a", "...", " "]), max_size=6), st.booleans())
def test_no_detour_leaves_the_sandbox(parts: list[str], absolute: bool) -> None:
    text = ("/" if absolute else "") + "/".join(parts)
    try:
        path = writable_path(text)
    except ValueError:
        return
    assert path == posixpath.normpath(text).replace("//", "/")
    assert path.startswith(("/sandbox/", "/tmp/"))
