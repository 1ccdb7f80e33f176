"""Executions on a scripted engine: how each kind ends, and what is left afterwards."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

from isol8.config import Config, load_config
from isol8.errors import AtCapacity, EngineFailure, InvalidRequest, RateLimited, SetupFailed
from isol8.model import Command, Event, Finished, Outcome, Output, Result, Started
from isol8.runtimes.registry import RUNTIMES
from isol8.service import deadline
from isol8.service.executor import collect
from isol8.service.service import Service
from isol8.wire.request import ExecuteBody, parse
from tests.unit.scripted_engine import INSTALLED, ScriptedEngine, pause, until

Make = Callable[..., Service]
POOL = {"python": 0, "bash": 1}


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest_asyncio.fixture
async def make(engine: ScriptedEngine, tmp_path: Any) -> AsyncIterator[Make]:
    """Makes a started service; in the end nothing may be left of it."""
    services: list[Service] = []

    def start(**tree: Any) -> Service:
        path = tmp_path / "config.json"
        path.write_text(json.dumps({"pool": POOL} | tree))
        config: Config = load_config(str(path), {})
        services.append(Service(config, engine, RUNTIMES, INSTALLED))
        return services[-1]

    yield start
    for service in services:
        await service.close()
    assert not engine.live
    assert engine.running == 0


@pytest.fixture
def service(make: Make) -> Service:
    return make()


def body(script: str, **parts: Any) -> ExecuteBody:
    options = parts.pop("options", None)
    tree = {"request": {"code": script.replace("; ", "\n"), "runtime": "bash"} | parts, "options": options}
    return parse(ExecuteBody, json.dumps(tree).encode())


async def command(service: Service, script: str, **parts: Any) -> Command:
    return await service.command(body(script, **parts), "key1", None)


async def execute(service: Service, script: str, session: str | None = None, **parts: Any) -> Any:
    """The result, and all of its output."""
    made = await service.command(body(script, **parts), "key1", session)
    async with aclosing(service.executor.stream(made, "key1", session)) as events:
        collected = await collect(events)
    output = {name: "".join(getattr(collected, name)) for name in ("stdout", "stderr")}
    return SimpleNamespace(**{each.name: getattr(collected.result, each.name) for each in fields(Result)}, **output)


async def test_the_events_of_a_plain_execution(service: Service, engine: ScriptedEngine) -> None:
    events: list[Event] = [
        event async for event in service.executor.stream(await command(service, "out hello; err oh; exit 3"), "key1")
    ]
    started, *pieces, finished = events
    assert isinstance(started, Started)
    assert pieces == [Output("stdout", "hello\n"), Output("stderr", "oh\n")]
    assert isinstance(finished, Finished)
    result = finished.result
    assert (result.execution_id, result.sandbox_id) == (started.execution_id, started.sandbox_id)
    assert (result.outcome, result.exit_code, result.truncated) == (Outcome.COMPLETED, 3, False)
    await until(lambda: started.sandbox_id not in engine.live)


async def test_collect_is_the_stream_as_one(service: Service) -> None:
    result = await execute(service, "out a; err b; out c")
    assert (result.stdout, result.stderr, result.exit_code) == ("a\nc\n", "b\n", 0)


async def test_each_execution_has_a_sandbox_of_its_own(service: Service) -> None:
    names = {(await execute(service, "exit 0")).sandbox_id for _ in range(3)}
    assert len(names) == 3


async def test_time_runs_out(service: Service, engine: ScriptedEngine) -> None:
    result = await execute(service, "err half; raw 6162; hang", timeoutMs=30)
    assert (result.outcome, result.exit_code, result.stdout) == (Outcome.TIMED_OUT, 137, "ab")
    assert result.stderr == "half\nExecution timed out after 30 ms\n"
    assert engine.calls["kill"] == 1


async def test_the_timeout_line_is_a_line_of_its_own(service: Service) -> None:
    result = await execute(service, "err x; hang", timeoutMs=20, options={"maxOutputSize": 1})
    assert result.stderr == "x\nExecution timed out after 20 ms\n"


async def test_a_sandbox_that_does_not_take_the_kill_is_destroyed(
    service: Service, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadline, "_GRACE_S", 0.05)
    engine.deaf = True
    result = await execute(service, "out x; hang", timeoutMs=30)
    assert (result.outcome, result.exit_code, result.stdout) == (Outcome.TIMED_OUT, 137, "x\n")


async def test_killed_for_memory(service: Service) -> None:
    result = await execute(service, "out x; oom")
    assert (result.outcome, result.exit_code, result.stdout) == (Outcome.OUT_OF_MEMORY, 137, "x\n")


async def test_memory_may_take_the_whole_sandbox(service: Service, engine: ScriptedEngine) -> None:
    engine.oom_takes_all = True
    result = await execute(service, "out x; oom", outputPaths=["/tmp/a"])
    assert (result.outcome, result.exit_code, result.stdout) == (Outcome.OUT_OF_MEMORY, 137, "x\n")
    assert result.file_errors == {"/tmp/a": "/tmp/a could not be read: the sandbox has ended"}


async def test_a_sandbox_that_fails_is_our_failure(service: Service, engine: ScriptedEngine) -> None:
    with pytest.raises(EngineFailure):
        await execute(service, "out x; die")
    await until(lambda: engine.calls["destroy"] == 1)


async def test_output_is_capped_and_masked(service: Service) -> None:
    options = {"maxOutputSize": 8, "secrets": {"KEY": "hunter2"}}
    result = await execute(service, "raw 68756e; raw 74657232; raw 2121; err fine", options=options)
    assert (result.stdout, result.stderr, result.truncated) == ("***!", "fine\n", True)


async def test_files_go_in_and_come_out(service: Service) -> None:
    result = await execute(service, "exit 1", files={"/tmp/a": "in"}, outputPaths=["/tmp/a", "/tmp/b"])
    assert result.files == {"/tmp/a": b"in"}
    assert result.file_errors == {"/tmp/b": "File not found: /tmp/b"}


async def test_limits_are_given_to_a_warm_sandbox_when_they_differ(service: Service, engine: ScriptedEngine) -> None:
    await execute(service, "exit 0")
    assert engine.calls["limit"] == 0
    await execute(service, "exit 0", options={"pidsLimit": 5})
    assert engine.calls["limit"] == 1


async def test_the_set_up_script_comes_first(service: Service, engine: ScriptedEngine) -> None:
    result = await execute(service, "wait ready; out x", setupScript="out quiet\nsay ready", env={"A": "1"})
    assert (result.stdout, result.stderr) == ("x\n", "")


async def test_only_a_program_whose_sandbox_is_given_up_is_the_last(service: Service, engine: ScriptedEngine) -> None:
    await execute(service, "out x", setupScript="out quiet")
    await execute(service, "out y", "s", setupScript="out quiet")
    assert engine.last == [(b"out quiet", False), (b"out x", True), (b"out quiet", False), (b"out y", False)]


async def test_a_failing_set_up_script_says_why(service: Service) -> None:
    with pytest.raises(SetupFailed) as raised:
        await execute(
            service, "out x", setupScript="err no hunter2\nerr really\nexit 4", options={"secrets": {"S": "hunter2"}}
        )
    assert raised.value.message == "The set-up script failed with exit code 4: no ***; really"


async def test_a_set_up_script_has_a_time_of_its_own(make: Make) -> None:
    service = make(policy={"setupTimeoutMs": 30})
    with pytest.raises(SetupFailed, match="The set-up script timed out after 30 ms"):
        await execute(service, "out x", setupScript="hang")


@pytest.mark.parametrize(
    ("runtime", "sentence"),
    [("cobol", "there are python, node, bun, deno, bash"), ("deno", "isol8 setup --runtime deno")],
)
async def test_a_runtime_that_is_not_there(runtime: str, sentence: str, service: Service) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        await execute(service, "1", runtime=runtime)


async def test_closing_the_stream_destroys_the_sandbox(service: Service, engine: ScriptedEngine) -> None:
    stream = service.executor.stream(await command(service, "out x; hang"), "key1")
    started = await anext(stream)
    assert isinstance(started, Started)
    assert isinstance(await anext(stream), Output)
    await stream.aclose()
    await until(lambda: started.sandbox_id not in engine.live and not engine.running)


async def test_being_cancelled_destroys_the_sandbox(service: Service, engine: ScriptedEngine) -> None:
    task = asyncio.create_task(execute(service, "say begun; hang"))
    await engine.events["begun"].wait()
    (name,) = [name for name, sandbox in engine.live.items() if sandbox.plans]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: name not in engine.live and not engine.running)


async def test_so_many_at_once(make: Make, engine: ScriptedEngine) -> None:
    service = make(maxConcurrent=1, maxQueue=1)
    first = asyncio.create_task(execute(service, "say begun; wait go"))
    await engine.events["begun"].wait()
    second = asyncio.create_task(execute(service, "out second"))
    await pause()
    with pytest.raises(AtCapacity):
        await execute(service, "out third")
    engine.events["go"].set()
    await first
    assert (await second).stdout == "second\n"
    assert (await execute(service, "out fourth")).stdout == "fourth\n"


async def test_a_place_is_free_again_however_an_execution_ends(make: Make, engine: ScriptedEngine) -> None:
    service = make(maxConcurrent=1, maxQueue=0)
    for script in ("exit 1", "oom", "die"):
        try:
            await execute(service, script)
        except EngineFailure:
            assert script == "die"
    engine.failures = 1
    with pytest.raises(EngineFailure):
        await execute(service, "exit 0", runtime="python")
    await execute(service, "exit 0")


async def test_a_key_has_its_rate(make: Make) -> None:
    service = make(policy={"requestsPerMinute": 1})
    await execute(service, "exit 0")
    with pytest.raises(RateLimited):
        await execute(service, "exit 0")


async def test_the_audit_log_names_what_ran_and_no_more(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "isol8.audit")
    await execute(service, "out code-of-mine", metadata={"job": "7"}, options={"secrets": {"S": "hunter2"}})
    with pytest.raises(EngineFailure):
        await execute(service, "die")
    first, second = [json.loads(record.message) for record in caplog.records if record.name == "isol8.audit"]
    assert (first["outcome"], first["exitCode"], first["caller"]) == ("completed", 0, "key1")
    assert first["metadata"] == {"job": "7"}
    assert (second["outcome"], second["error"]) == ("refused", "engine_failure")
    assert "mine" not in caplog.text
    assert "hunter2" not in caplog.text


async def test_warm_sandboxes_are_made_for_every_runtime(make: Make, engine: ScriptedEngine) -> None:
    await make(pool={"bash": 2, "python": 1}).start()
    await until(lambda: len(engine.live) == 3)


async def test_timings_are_told_to_who_asks(service: Service) -> None:
    assert (await execute(service, "out x")).timings is None
    timings = (await execute(service, "out x", options={"timings": True})).timings
    assert list(timings) == ["queue", "checkout", "run"]
    assert all(ms >= 0 for ms in timings.values())


async def test_what_is_counted(make: Make, engine: ScriptedEngine) -> None:
    service = make(pool={"python": 0, "bash": 0})
    await execute(service, "exit 3")
    await execute(service, "oom", "a session")
    engine.failures = 1
    with pytest.raises(EngineFailure):
        await execute(service, "out x", runtime="python")
    busy = asyncio.create_task(execute(service, "say begun; wait go"))
    await engine.events["begun"].wait()

    def said() -> set[str]:
        return set(service.metrics.text().decode().splitlines())

    wanted = {
        'isol8_executions_total{outcome="completed",runtime="bash"} 1.0',
        'isol8_executions_total{outcome="out_of_memory",runtime="bash"} 1.0',
        'isol8_executions_total{outcome="refused",runtime="python"} 1.0',
        "isol8_running 1.0",
        "isol8_queued 0.0",
        "isol8_sessions 1.0",
        'isol8_phase_seconds_count{phase="run"} 2.0',
    }
    assert wanted <= said()
    engine.events["go"].set()
    await busy
    await until(lambda: {"isol8_running 0.0", 'isol8_phase_seconds_count{phase="teardown"} 2.0'} <= said())
