"""Which engine the suites run on (`pytest --engine NAME`), and where it differs from the contract.

`DIFFERENCES` is the one list of what is known not to be as the contract has it, each with its reason. Such a test must
fail (an entry that is no longer true is a failure). `NOT_ABOUT` are tests of what only the native engine has; they are
left out.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

ENGINES = ("native", "docker", "gvisor", "docker-runsc", "podman")
CURRENT = {"engine": "native"}
# Those of the Docker engine: by itself, with every container under gVisor, and with Podman's socket in Docker's place.
_OF_DOCKER = ("docker", "docker-runsc", "podman")

# Pattern of a test's id below tests/, without its brackets → reason.
Reasons = dict[str, str]
_NUMBERS = "process ids are higher: runc's own threads came before"

_PROCESSES = "the machine's processes are counted, not those of its own kernel; with too many the whole sandbox ends"
_SIZES = "a live sandbox's sandboxSize and tmpSize cannot change"
_STATX = "ls and stat fail: Debian's gVisor (2022) refuses a flag of statx that they set, AT_NO_AUTOMOUNT"
_STATUS = "its /proc/self/status has no SigBlk, SigIgn and CapAmb"

_FIXED = "limits of a live session cannot change"
_OWNER = "Podman gives its tmpfs no owner: /sandbox is root's, and everybody may write to it"

_OF_GVISOR: Reasons = {
    "contract/test_limits.py::test_processes": _PROCESSES,
    "contract/test_limits.py::test_threads_count_as_processes": _PROCESSES,
    "contract/test_view.py::test_kill_everything_harms_only_itself": "its kernel lets process 1 be killed",
    "contract/test_files.py::test_a_full_sandbox_is_507_and_nothing_is_half_written": _SIZES,
    "contract/test_sessions.py::test_sizes_may_grow": _SIZES,
    "contract/test_view.py::test_three_descriptors_alone_are_open?bash?": _STATX,
    "contract/test_view.py::test_the_sandbox_holds_the_program_alone?bash?": _STATX,
    "contract/test_surroundings.py::test_the_user": _STATX,
    "contract/test_surroundings.py::test_each_sandbox_has_its_own_processes_and_host_name": _STATX,
    "contract/test_view.py::test_signals_are_as_the_kernel_starts_a_program": _STATUS,
    "contract/test_view.py::test_signals_are_default_however_the_server_was_started": _STATUS,
    "contract/test_surroundings.py::test_no_privilege": _STATUS,
}
DIFFERENCES: dict[str, Reasons] = {
    "native": {
        "contract/test_execute.py::test_hash_seeds_differ": "sandboxes are forks of one interpreter: one seed",
        "security/test_neighbours.py::test_what_a_neighbour_reads_is_not_told": "sandboxes share the inodes of /usr",
    },
    "docker": {
        "packages/test_layers.py::test_nothing_of_ours_is_to_be_seen": "its way out is in /run, which the image has",
        "differential/*?python-process_state.py?": "getgroups() has the program's own group in it",
        "differential/*?bash-child_death_reported.sh?": _NUMBERS,
        "differential/*?bash-exit_statuses.sh?": _NUMBERS,
    },
    "gvisor": _OF_GVISOR,
    "docker-runsc": {
        **_OF_GVISOR,
        "contract/test_sessions.py::test_later_calls_may_change_limits": _FIXED,
    },
    "podman": {
        "contract/test_inputs.py::test_files_belong_to_the_program": _OWNER,
        "contract/test_surroundings.py::test_the_user": _OWNER,
        "contract/test_sessions.py::test_later_calls_may_change_limits": _FIXED,
        "contract/test_sessions.py::test_what_cannot_be_changed_is_a_409_that_says_so": _FIXED,
    },
}
_OUTSIDE = "looks for the program among the machine's processes, where those of a sandbox are not"
_VARYING = "the number of processes that make up a sandbox varies, and states are compared by it"
_BOMB = "the whole sandbox ends of too many processes, if a program has made them before its time is over"
_CLOCK = "the program's own clock of processor time is gVisor's, and not that of the machine, which it is compared with"
_LAYERS = "takes layers of the native engine away; see tests/docker"
_NO_NETWORK = "it has no filtered networks and no packages so far, and so it has none of these processes"
_AHEAD = "the native engine alone imports modules ahead of time"
_IMPORTS = (
    "what_is_imported_ahead_is_there", "packages_are_imported_by_nobody_but_the_sandbox", "setup_prepares_a_set",
    "threads_of_an_import_are_alive", "a_variable_that_imports_look_at_counts", "the_end_of_a_program_is_as_ever",
)  # fmt: skip
_PARTS = {f"contract/test_recovery.py::*{part}?": _NO_NETWORK for part in ("builds", "keeper")}
_SEEN_FROM_OUTSIDE: Reasons = {
    "contract/test_sessions.py::test_delete": _OUTSIDE,
    "contract/test_sessions.py::test_delete_ends_a_run_in_progress_with_a_clear_error": _OUTSIDE,
    "contract/test_endings.py::test_a_client_that_goes_away_*": _OUTSIDE,
    "contract/test_endings.py::test_the_server_ends_while_programs_run": _OUTSIDE,
    "contract/test_execute.py::test_timestamp_duration_and_usage": _CLOCK,
    "contract/test_limits.py::test_a_fork_bomb_ends_with_its_execution": _BOMB,
    "leak/test_leaks.py::test_500_mixed_executions_leave_nothing": _VARYING,
    "security/*": "attacks on the machine's kernel; a sandbox has one of its own",
}
_OF_CONTAINERS: Reasons = {
    "contract/test_isolation_policy.py::*": _LAYERS,
    "security/test_meta.py::*": _LAYERS,
    "contract/test_refusals.py::test_a_runtime_that_is_not_installed*": "runtimes are the image's",
    "engine/*": "the native engine by itself",
    "security/test_copies.py::*": "the native engine alone copies interpreters",
    "security/test_first.py::*": "the native engine alone makes process 1 by a table",
}
NOT_ABOUT: dict[str, Reasons] = {
    "native": {"docker/*": "the Docker engine by itself", "packages/test_images.py::*": "images are Docker's"},
    "docker": {
        **_OF_CONTAINERS,
        **{f"packages/test_templates.py::test_{name}": _AHEAD for name in _IMPORTS},
        "egress/test_sandboxes.py::test_a_port_that_is_taken": "the runner keeps the port, once it has it",
    },
    "gvisor": {
        **_PARTS,
        **_SEEN_FROM_OUTSIDE,
        "contract/test_isolation_policy.py::*": _LAYERS,
        "engine/*": "the native engine by itself",
        "docker/*": "the Docker engine by itself",
        "packages/*": "it has no packages so far",
        "egress/*": "it has no filtered networks so far",
    },
    "docker-runsc": {
        **_OF_CONTAINERS,
        **_PARTS,
        **_SEEN_FROM_OUTSIDE,
        "contract/test_endings.py::test_out_of_memory_in_a_child_alone": (
            "gVisor's kernel may end as a whole when a child wants more memory than there is, and a busy daemon"
            " tells of no kill then: the execution has failed, which is what is said"
        ),
    },
    "podman": {**_OF_CONTAINERS, **_PARTS},
}
# In /dev, beyond the usual: what programs can do with them is bounded (queues by a resource limit).
_DEVICES = {
    "native": set[str](),
    "docker": {"/dev/mqueue", "/dev/ptmx", "/dev/pts/ptmx"},
    "gvisor": {"/dev/fuse", "/dev/net"},  # of its own kernel, and closed to who has no capabilities
    "docker-runsc": {"/dev/fuse", "/dev/net"},
    "podman": {"/dev/mqueue", "/dev/ptmx", "/dev/pts/ptmx"},
}


def reason(table: dict[str, Reasons], test: str) -> str | None:
    """Why a test is in a table for the engine in use; None when it is not."""
    return next((why for pattern, why in table[CURRENT["engine"]].items() if fnmatchcase(test, pattern)), None)


def supervisor() -> str:
    """The module that the supervisor's process runs."""
    return f"isol8.engines.{'docker' if of_docker() else CURRENT['engine']}.supervisor"


def of_docker() -> bool:
    """Whether sandboxes are containers."""
    return CURRENT["engine"] in _OF_DOCKER


def environment() -> dict[str, str]:
    """What chooses the engine in use for a server."""
    chosen = {"ISOL8_ENGINE": "docker" if of_docker() else CURRENT["engine"]}
    return chosen | ({"ISOL8_DOCKER_RUNTIME": "runsc"} if CURRENT["engine"] == "docker-runsc" else {})


def last_words() -> set[str]:
    """What a kill for memory may leave of a program's output, beside all of it: gVisor's kernel is killed with what it
    has not yet given to anybody."""
    return {""} if "gvisor" in CURRENT["engine"] or "runsc" in CURRENT["engine"] else set()


def more_devices() -> set[str]:
    """What may be in /dev, and written to, on this engine alone."""
    return _DEVICES[CURRENT["engine"]]


def more_in_root() -> set[str]:
    """What may be in / on this engine alone. Docker always mounts /sys; it is masked."""
    return {"sys"} if of_docker() else set()


def bare_mounts() -> set[str]:
    """What is mounted without nosuid and nodev, though read-only. Docker has no option for it: in its place there is
    no-new-privileges, and nothing in the image that the flags would matter for."""
    return {"/", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"} if of_docker() else set()


def closed_mounts() -> set[str]:
    """What is not mounted read-only on this engine alone, and is closed to programs by its owner."""
    return {"/dev", "/dev/pts"} if of_docker() else set()


def writable_mounts() -> set[str]:
    """What may be written to on this engine alone: queues, which a resource limit bounds."""
    return {"/dev/mqueue"} if of_docker() else set()
