"""What an API process tells idle workers: something for each job, in moderation."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from app.queue import Waker, sender
from tests.wake_ups import WakeUps


def sent(url: str, act: Callable[[Waker], Awaitable[None]]) -> None:
    """Let a waker act, and send all that it owes."""

    async def act_and_wait() -> None:
        await act(Waker(sender(url)))
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))

    asyncio.run(act_and_wait())


def test_each_job_wakes_a_worker(valkey_url: str, wake_ups: WakeUps) -> None:
    async def post_one_by_one(waker: Waker) -> None:
        for _ in range(3):
            await waker.wake()

    sent(valkey_url, post_one_by_one)
    assert len(wake_ups) == 3


def test_thousands_of_jobs_at_once_wake_no_thousands_of_workers(
    valkey_url: str, wake_ups: WakeUps
) -> None:
    sent(valkey_url, lambda waker: waker.wake(5000))
    assert len(wake_ups) == 32


def test_a_broker_that_is_away_is_not_asked_for_each_job(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sent("redis://127.0.0.1:1", lambda waker: waker.wake(50))
    assert caplog.text.count("no wake-up sent") == 1


def test_what_is_owed_is_let_go_of_when_the_api_stops(valkey_url: str, wake_ups: WakeUps) -> None:
    async def stop_at_once(waker: Waker) -> None:
        await waker.wake(50)
        await waker.stop()

    sent(valkey_url, stop_at_once)
    assert len(wake_ups) <= 1
