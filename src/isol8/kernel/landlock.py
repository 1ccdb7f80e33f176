"""Landlock: a process shuts itself, and all it will start, into one tree of files.

Everything below the tree stays as it was. What is not below it cannot be opened even through a descriptor, a magic link
of /proc or a mount that got in by mistake. Abstract sockets reach nobody outside either, nor do signals, unless that is
asked for (ABI 6).
"""

from __future__ import annotations

import os

from isol8.kernel.syscalls import syscall

_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
_PATH_BENEATH = 1
# Of version 1, a rename from one directory to another is refused everywhere, which programs would see.
OLDEST_ABI = 2
_SCOPE_ABI = 6
_FILES = {2: (1 << 14) - 1, 3: (1 << 15) - 1}  # all rights on files: version 2 has REFER, 3 adds TRUNCATE
ALL = (1 << 15) - 1
READ = 0x4 | 0x8  # LANDLOCK_ACCESS_FS_READ_FILE, READ_DIR
_OF_FILES = 0x1 | 0x2 | 0x4 | 0x4000  # EXECUTE, WRITE_FILE, READ_FILE, TRUNCATE: those that a file can have
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 0x1, 0x2


def abi() -> int:
    """The version this kernel has. Raises OSError: ENOSYS or EOPNOTSUPP where it has none."""
    return syscall("landlock_create_ruleset", None, 0, _VERSION)


def ruleset_for(tree: str, *, signals: bool = False) -> int:
    """A descriptor of the rules "all below `tree`, and nothing else"; the caller closes it. `signals`: to processes
    outside, which only those that share a process namespace with them could name anyway. Raises OSError."""
    return _ruleset({tree: ALL}, _SCOPE_ABSTRACT_SOCKETS | (0 if signals else _SCOPE_SIGNALS))


def ruleset_of(rights: dict[str, int]) -> int:
    """A descriptor of the rules "for what is at and below each path, these rights, and no others"; the caller closes
    it. Abstract sockets stay as they were. Raises OSError."""
    return _ruleset(rights, _SCOPE_SIGNALS)


def _ruleset(rights: dict[str, int], scopes: int) -> int:
    version = abi()
    if version < OLDEST_ABI:
        raise OSError(95, f"Landlock is of version {version}, and {OLDEST_ABI} is needed")
    files = _FILES[min(version, max(_FILES))]
    # struct landlock_ruleset_attr: handled_access_fs, handled_access_net, scoped; older kernels know the first alone.
    words = [files, 0, scopes] if version >= _SCOPE_ABI else [files]
    attributes = b"".join(word.to_bytes(8, "little") for word in words)
    ruleset = syscall("landlock_create_ruleset", attributes, len(attributes), 0)
    try:
        for path, allowed in rights.items():
            _allow(ruleset, path, files & allowed)
    except OSError:
        os.close(ruleset)
        raise
    return ruleset


def _allow(ruleset: int, path: str, rights: int) -> None:
    top = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(f"/proc/self/fd/{top}"):
            rights &= _OF_FILES
        # struct landlock_path_beneath_attr, packed: allowed_access, parent_fd
        rule = rights.to_bytes(8, "little") + top.to_bytes(4, "little")
        syscall("landlock_add_rule", ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(top)


def restrict(ruleset: int) -> None:
    """Put this process, and all it will start, under the rules. Needs no_new_privs. Raises OSError."""
    syscall("landlock_restrict_self", ruleset, 0)
