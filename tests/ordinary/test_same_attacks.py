"""The attacks that matter most, on an ordinary user's server: the very same ones that root's is tested with.

What needs cgroups is in test_equipped.py, and what a user without ids does not get is in test_bare.py.
"""

# ruff: noqa: F401
from __future__ import annotations

import httpx

from tests.security.test_host import (
    test_chroot_break_out_with_an_open_directory,
    test_devices,
    test_files_of_the_machine,
    test_interpreters_cannot_be_overwritten,
    test_masked_proc,
    test_memory_files_compiled_and_executed,
    test_mounts_and_roots,
    test_no_descriptor_leaks,
    test_no_host_processes,
    test_nothing_of_the_machine_can_be_opened_for_writing,
    test_read_only_root,
    test_refused_calls,
    test_release_agent_and_cgroups,
    test_setuid_programs_give_nothing,
    test_switches_of_the_kernel,
    test_the_runner_cannot_be_reached,
    test_the_runner_survives_every_signal,
)
from tests.security.test_neighbours import (
    neighbours,
    test_files,
    test_ipc,
    test_keyrings,
    test_one_sandbox_for_each,
    test_processes,
    test_shared_memory_semaphores_and_queues,
    test_sockets_and_ports,
    test_what_the_owner_left_is_as_it_was,
)
from tests.security.test_network import (
    ears,
    test_no_host_loopback,
    test_nothing_leaves,
    test_only_loopback_and_it_is_ones_own,
    test_the_network_cannot_be_changed,
    test_unix_sockets_of_the_machine,
)
from tests.support.calls import stdout


def test_the_machines_proc_is_not_under_the_sandboxes(client: httpx.Client) -> None:
    """It was there until the sandbox had its own: the kernel wants to see one for another."""
    mounted = stdout(client, "grep -c ' - proc ' /proc/self/mountinfo; grep ' - proc ' /proc/self/mountinfo", "bash")
    count, *lines = mounted.splitlines()
    roots = sorted(line.split()[3] for line in lines if line.split()[4] == "/proc")
    assert roots == ["/"], mounted
    assert int(count) == len(lines)
