"""What a job is in one line, as ``pst jobs watch`` prints it."""

from app import examples
from app.commands.progress import standing
from app.jobs.schemas import JobDetail


def test_the_line_of_a_job_that_is_tried_again_says_why_and_from_when() -> None:
    requeue = {
        "reason": "hub_unavailable",
        "message": "The hub cannot be reached.",
        "next_try_at": "2026-11-25T14:03:00Z",
    }

    line = standing(JobDetail.model_validate(examples.QUEUED | {"attempt": 1, "requeue": requeue}))

    assert "again from 14:03:00 UTC: The hub cannot be reached." in line
