"""Lists of packages: what is one, in which normal form, and what must not pass for one."""

from __future__ import annotations

import time

import pytest

from isol8.packages.requirements import InvalidRequirements, normal_form


def test_python_in_normal_form() -> None:
    written = ["NumPy", "requests[socks,SOCKS] >=2 , <3", "numpy", "zope.interface==5.*", "a; python_version < '3.9'"]
    assert normal_form("python", written) == (
        'a; python_version < "3.9"',
        "numpy",
        "requests[socks]<3,>=2",
        "zope-interface==5.*",
    )


def test_npm_in_normal_form() -> None:
    written = ["lodash", "@types/node@^20", "left-pad@1.x || >=2.5.0  <3", "a@1.2.3 - 2.0", "b@latest", "lodash"]
    expected = ("@types/node@^20", "a@1.2.3 - 2.0", "b@latest", "left-pad@1.x || >=2.5.0 <3", "lodash")
    assert normal_form("node", written) == normal_form("bun", written) == expected
    assert normal_form("deno", ["npm:lodash@4", "lodash"]) == ("lodash", "lodash@4")


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "-r /etc/passwd", "--index-url=http://127.0.0.1", "-e .", "numpy --hash=sha256:00", "numpy\n--pre",
        "numpy @ https://example.org/a.whl", "numpy@file:///etc/passwd", "./here", "/tmp/a.whl", "../a", "a.whl/../b",
        "git+https://example.org/a", "https://example.org/a.whl", "numpy; rm -rf /", "numpy && id", "$(id)", "`id`",
        "numpy\\\n", "numpy\0", "n\u00fcmpy", "\u200bnumpy", "numpy==1 2", "x" * 301, "[extra]", "numpy>=",
    ],
)  # fmt: skip
def test_no_python_requirement(text: str) -> None:
    with pytest.raises(InvalidRequirements, match=r"^\[1\] "):
        normal_form("python", ["numpy", text])


@pytest.mark.parametrize(
    "text",
    [
        "", "-g", "--registry=http://127.0.0.1", "lodash@file:../x", "lodash@npm:other", "owner/repo", "github:a/b",
        "http://example.org/a.tgz", "../a", "./a", "/a", "@scope", "@/a", "@a/", "Lodash", ".hidden", "_private",
        "node_modules", "favicon.ico", "a@git+ssh://example.org/a", "a@1; id", "a@$(id)", "a@`id`", "a@workspace:*",
        "a@", "a@../x", "a@link:x", "a@latest --ignore-scripts=false", "a@1 --prefix=/", "a@\n", "a" * 215, "a@^1 |",
    ],
)  # fmt: skip
@pytest.mark.parametrize("runtime", ["node", "bun", "deno"])
def test_no_npm_package(text: str, runtime: str) -> None:
    with pytest.raises(InvalidRequirements, match=r"^\[0\] "):
        normal_form(runtime, [text])


def test_what_passes_stands_for_itself_on_a_command_line() -> None:
    """Nothing in normal form begins with a dash, or is taken for a path."""
    for runtime, written in (("python", ["a>=1", "a"]), ("node", ["@a/b@<2", "a@-1"])):
        try:
            forms = normal_form(runtime, written)
        except InvalidRequirements:
            continue
        assert not any(form.startswith(("-", ".", "/")) for form in forms)


@pytest.mark.parametrize("text", ["a@" + "1 " * 140 + "!", "a@" + "1-" * 140 + "!", "a@" + "1||" * 95 + "!"])
def test_the_grammar_takes_linear_time(text: str) -> None:
    began = time.process_time()
    with pytest.raises(InvalidRequirements):
        normal_form("node", [text])
    assert time.process_time() - began < 1


def test_bash_and_jsr_have_none() -> None:
    with pytest.raises(InvalidRequirements, match="not available for bash"):
        normal_form("bash", ["jq"])
    with pytest.raises(InvalidRequirements, match="JSR"):
        normal_form("deno", ["jsr:@std/path"])
