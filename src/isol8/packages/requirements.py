"""What callers may ask to have installed: names and versions, in the grammar of each ecosystem, and nothing else.

What passes is put into one normal form, so that two ways to write the same set have one layer. It never begins with a
dash and holds no path, URL or character that a shell or an installer would take for anything but a requirement.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

_MAX_LENGTH = 300
# https://github.com/npm/validate-npm-package-name: what new packages may be called.
_NPM_NAME = r"(?:@[a-z0-9][a-z0-9._~-]*/)?[a-z0-9][a-z0-9._~-]*"
_NPM_PACKAGE = re.compile(rf"(?P<name>{_NPM_NAME})(?:@(?P<range>.+))?")
_NPM_NAME_LENGTH = 214
_NPM_NOT_NAMES = ("node_modules", "favicon.ico")
# https://github.com/npm/node-semver#ranges, for one comparator.
_PART = r"(?:\d{1,16}|[xX*])"
_TAIL = r"(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
_VERSION = rf"v?{_PART}(?:\.{_PART}(?:\.{_PART}{_TAIL})?)?"
_COMPARATOR = rf"(?:[~^]|[<>]=?|=)?\s*{_VERSION}"
_SIMPLE = rf"(?:{_VERSION}\s+-\s+{_VERSION}|{_COMPARATOR}(?:\s+{_COMPARATOR})*)"
_NPM_RANGE = re.compile(rf"{_SIMPLE}(?:\s*\|\|\s*{_SIMPLE})*")
_NPM_TAG = re.compile(r"[a-zA-Z][a-zA-Z0-9._-]*")


_NOT_FOR_BASH = (
    " is not available for bash: the machine's own commands are there already, and others can be put into "
    "request.files, or be run from Python or Node.js, which install packages"
)


class InvalidRequirements(ValueError):
    """Not a list of packages. The text is to follow the list's name: `[3] is not …`, or ` is not …`."""


def _python(text: str) -> str:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        raise ValueError("is not a requirement such as numpy or requests>=2,<3") from None
    if requirement.url is not None:
        raise ValueError("must be a name and versions, not an address or a path")
    extras = f"[{','.join(sorted({canonicalize_name(extra) for extra in requirement.extras}))}]"
    marker = f"; {requirement.marker}" if requirement.marker else ""
    versions = ",".join(sorted(str(specifier) for specifier in requirement.specifier))
    return f"{canonicalize_name(requirement.name)}{extras if requirement.extras else ''}{versions}{marker}"


def _npm(text: str) -> str:
    match = _NPM_PACKAGE.fullmatch(text)
    if match is None or len(match["name"]) > _NPM_NAME_LENGTH or match["name"] in _NPM_NOT_NAMES:
        raise ValueError("is not a package such as lodash, @scope/name or lodash@^4")
    if match["range"] is None:
        return match["name"]
    wanted = " ".join(match["range"].split())
    if _NPM_RANGE.fullmatch(wanted) is None and _NPM_TAG.fullmatch(wanted) is None:
        raise ValueError("must have a version range or a tag behind the @")
    return f"{match['name']}@{wanted}"


def _deno(text: str) -> str:
    if text.startswith("jsr:"):
        raise ValueError("must be an npm package: those of JSR cannot be installed")
    return _npm(text.removeprefix("npm:"))


_GRAMMARS: Mapping[str, Callable[[str], str]] = {"python": _python, "node": _npm, "bun": _npm, "deno": _deno}
KNOWN_RUNTIMES = (*_GRAMMARS, "bash")


def normal_form(runtime: str, requirements: Iterable[str]) -> tuple[str, ...]:
    """The set in its normal form: sorted, each once. `runtime` is one that isol8 knows. Raises InvalidRequirements."""
    if runtime == "bash":
        raise InvalidRequirements(_NOT_FOR_BASH)
    grammar = _GRAMMARS[runtime]
    found = set()
    for at, text in enumerate(requirements):
        if len(text) > _MAX_LENGTH or not text.isascii() or not text.isprintable():
            raise InvalidRequirements(f"[{at}] is too long or has characters that no package has")
        try:
            found.add(grammar(text.strip()))
        except ValueError as error:
            raise InvalidRequirements(f"[{at}] {error}") from None
    return tuple(sorted(found))


def name_of(requirement: str) -> str:
    """The package's name in a requirement in normal form."""
    match = re.match(rf"{_NPM_NAME}", requirement)
    assert match is not None
    return match[0]
