"""How a sweep stands, read off its jobs; a job's own states are in app/jobs/states.py."""

from collections.abc import Mapping
from enum import StrEnum

from app.jobs.states import Status


class SweepStatus(StrEnum):
    QUEUED = "queued"
    """None of its jobs has begun."""
    RUNNING = "running"
    """Some have, and some still wait or run."""
    PAUSED = "paused"
    """All that has not ended is paused."""
    SUCCEEDED = "succeeded"
    PARTLY_FAILED = "partly_failed"
    """All have ended, some of them well and some not."""
    FAILED = "failed"
    """All have ended, none of them well."""
    CANCELLED = "cancelled"
    """All have ended, some of them because that was asked, and none of them failed."""


def derive(jobs: Mapping[Status, int]) -> SweepStatus:
    """The status of a sweep.

    Args:
        jobs: How many of its jobs are in which state; none at all were deleted one by one.
    """
    there = {status for status, count in jobs.items() if count}
    if there == {Status.QUEUED}:
        return SweepStatus.QUEUED
    if there & {Status.QUEUED, Status.RUNNING}:
        return SweepStatus.RUNNING
    if Status.PAUSED in there:
        return SweepStatus.PAUSED
    if there == {Status.SUCCEEDED}:
        return SweepStatus.SUCCEEDED
    if Status.FAILED in there:
        well = Status.SUCCEEDED in there
        return SweepStatus.PARTLY_FAILED if well else SweepStatus.FAILED
    return SweepStatus.CANCELLED
