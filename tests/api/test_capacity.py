"""What happens when the server is full, or a key over its rate: 503 and 429, with when to come again."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest

from tests.conftest import Serve
from tests.support.calls import body, delete, execute, parse_events, refusal
from tests.support.machine import until
from tests.support.server import Server


@pytest.fixture(scope="module")
def narrow(serve: Serve) -> Server:
    """Room for one execution and one that waits."""
    return serve({"maxConcurrent": 1, "maxQueue": 1})


def _retry_after(answer: httpx.Response) -> int:
    return int(answer.headers["retry-after"])


def _ended(calls: list[Future[httpx.Response]]) -> list[httpx.Response]:
    return [call.result() for call in calls if call.done()]


def test_a_full_queue_is_503_with_retry_after(narrow: Server) -> None:
    """Of three that come while the one place is taken, one may wait; it is served when the place is free."""
    with narrow.client() as client, ThreadPoolExecutor(3) as pool:
        with client.stream("POST", "/execute/stream", json=body("print(1, flush=True)\nwhile True: pass")) as busy:
            received = parse_events(busy.iter_lines())  # kept: letting go of it hangs up
            next(received)  # it runs
            calls = [pool.submit(client.post, "/execute", json=body("print('waited')")) for _ in range(3)]
            until(lambda: len(_ended(calls)) == 2, "two refusals")
            for answer in _ended(calls):
                refusal(answer, 503)
                assert _retry_after(answer) >= 1
            streamed = client.post("/execute/stream", json=body("print('too many')"))
            refusal(streamed, 503)
            assert _retry_after(streamed) >= 1
        served = [call.result() for call in calls if call.result().status_code == 200]
        assert [answer.json()["stdout"] for answer in served] == ["waited\n"]
        assert execute(client, "print('room again')")["stdout"] == "room again\n"


def test_sessions_queue_too(narrow: Server) -> None:
    with narrow.client() as client:
        assert execute(client, "print(1)", sessionId="one")["stdout"] == "1\n"
        assert execute(client, "print(2)", sessionId="two")["stdout"] == "2\n"
        delete(client, "one")
        delete(client, "two")


def test_a_key_over_its_rate_is_429_with_retry_after(serve: Serve) -> None:
    running = serve({"policy": {"requestsPerMinute": 1}, "apiKeys": ["key-one", "key-two"]}, key=None)
    with running.client("key-one") as client, running.client("key-two") as other:
        answers = [client.post("/execute", json=body("print(1)")) for _ in range(4)]
        limited = [answer for answer in answers if answer.status_code != 200]
        assert limited
        assert answers[0].status_code == 200
        for answer in limited:
            refusal(answer, 429)
            assert 1 <= _retry_after(answer) <= 60
        streamed = client.post("/execute/stream", json=body("print(1)"))
        refusal(streamed, 429)
        assert execute(other, "print('not my share')")["exitCode"] == 0


def test_more_at_once_than_there_are_places(serve: Serve) -> None:
    running = serve({"maxConcurrent": 2, "maxQueue": 100})
    with running.client() as client, ThreadPoolExecutor(24) as pool:
        results = list(pool.map(lambda n: execute(client, f"print({n} * 2)")["stdout"], range(24)))
    assert results == [f"{n * 2}\n" for n in range(24)]
