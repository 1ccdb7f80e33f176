"""Which engine the suites run on (`pytest --engine NAME`), and where it differs from the contract.

`DIFFERENCES` is the one list of what is known not to be as the contract has it, each with its reason. Such a test must
fail (an entry that is no longer true is a failure). `NOT_ABOUT` are tests of what only the native engine has; they are
left out.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

ENGINES = ("native", "docker", "gvisor")
CURRENT = {"engine": "native"}

# Pattern of a test's id below tests/, without its brackets → reason.
Reasons = dict[str, str]
_IMAGE = "the image has directories of these names, with its own files"
_NUMBERS = "process ids are higher: runc's own threads came before"

DIFFERENCES: dict[str, Reasons] = {
    "native": {
        "contract/test_execute.py::test_hash_seeds_differ": "sandboxes are forks of one interpreter: one seed",
        "security/test_neighbours.py::test_what_a_neighbour_reads_is_not_told": "sandboxes share the inodes of /usr",
    },
    "docker": {
        "security/test_host.py::test_files_of_the_machine*": _IMAGE,
        "security/test_host.py::test_chroot_break_out_with_an_open_directory": _IMAGE,
        "security/test_host.py::test_read_only_root": "Docker mounts without nosuid; no-new-privileges does it",
        "differential/*?python-process_state.py?": "getgroups() has the program's own group in it",
        "differential/*?bash-child_death_reported.sh?": _NUMBERS,
        "differential/*?bash-exit_statuses.sh?": _NUMBERS,
    },
    "gvisor": {},
}
_LAYERS = "takes layers of the native engine away; see tests/docker"
NOT_ABOUT: dict[str, Reasons] = {
    "native": {"docker/*": "the Docker engine by itself"},
    "docker": {
        "contract/test_isolation_policy.py::*": _LAYERS,
        "security/test_meta.py::*": _LAYERS,
        "contract/test_refusals.py::test_a_runtime_that_is_not_installed*": "runtimes are the image's",
        "engine/*": "the native engine by itself",
    },
    "gvisor": {
        "contract/test_isolation_policy.py::*": _LAYERS,
        "security/*": "attacks on the machine's kernel; a sandbox has one of its own",
        "engine/*": "the native engine by itself",
        "docker/*": "the Docker engine by itself",
    },
}
# In /dev, beyond the usual: what programs can do with them is bounded (queues by a resource limit).
_DEVICES = {"native": set[str](), "docker": {"/dev/mqueue", "/dev/ptmx", "/dev/pts/ptmx"}, "gvisor": set()}


def reason(table: dict[str, Reasons], test: str) -> str | None:
    """Why a test is in a table for the engine in use; None when it is not."""
    return next((why for pattern, why in table[CURRENT["engine"]].items() if fnmatchcase(test, pattern)), None)


def more_devices() -> set[str]:
    """What may be in /dev, and written to, on this engine alone."""
    return _DEVICES[CURRENT["engine"]]
