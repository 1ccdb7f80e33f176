"""What other suites ask of root's server holds for an ordinary user's, whatever that user has: the very same tests."""

# ruff: noqa: F401
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.contract.test_endings import (
    test_a_client_that_goes_away_kills_its_execution,
    test_a_setsid_child_does_not_outlive_the_timeout,
    test_death_by_sigkill,
    test_nothing_outlives_an_ephemeral_execution,
    test_timeout,
)
from tests.contract.test_execute import (
    test_every_execution_has_a_sandbox_of_its_own,
    test_exit_code_and_both_streams,
    test_hello,
)
from tests.contract.test_files import live, test_a_full_sandbox_is_507_and_nothing_is_half_written, test_round_trip
from tests.contract.test_inputs import test_files_belong_to_the_program, test_files_in_and_out_of_every_runtime
from tests.contract.test_limits import test_sizes_of_the_writable_directories
from tests.contract.test_sessions import (
    test_background_processes_persist,
    test_files_persist,
    test_runtimes_share_the_sandbox,
    test_sizes_may_grow,
)
from tests.contract.test_view import (
    test_nothing_in_proc_but_its_own_can_be_written,
    test_nothing_of_the_server_is_in_proc,
    test_three_descriptors_alone_are_open,
)
from tests.differential.cases import Case, all_cases
from tests.differential.test_same_as_bare import compare
from tests.support.server import Server

# One of each kind of thing that could differ: who it is, how it starts and ends, processes, signals, streams, memory.
PROGRAMS = (
    "atexit_order",
    "asyncio_tasks",
    "ctypes_calls",
    "death_by_segfault",
    "exit_hard",
    "fork_and_exec",
    "imports_beside",
    "input_lines",
    "main_names",
    "os_fork",
    "process_fork",
    "process_pool_crash",
    "process_shared",
    "process_spawn",
    "python_variables",
    "recursion_depth",
    "run_itself",
    "signal_handlers",
    "signals_state",
    "site_state",
    "stdout_redirected",
    "sys_modules",
    "sys_state",
    "threads",
    "traceback_chained",
)
CASES = [case for case in all_cases() if case.runtime != "python" or case.name in PROGRAMS]


def test_the_programs_are_there() -> None:
    assert {case.name for case in CASES if case.runtime == "python"} == set(PROGRAMS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.runtime}-{case.name}{case.extension}")
def test_same_as_the_bare_interpreter(
    case: Case, server: Server, client: httpx.Client, require: Callable[[str], None], tmp_path: Path
) -> None:
    require(case.runtime)
    compare(case, server, client, tmp_path)
