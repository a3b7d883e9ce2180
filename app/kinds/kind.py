"""What is told of each kind of error. Which kinds there are is in the modules beside this one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """An error's kind.

    Args:
        status: What the API answers with; None where it only ever is the end of a job.
        title: What happened, the same each time.
        meaning: When that is so.
        remedy: What the caller can do.
        ends_jobs: Whether a job can fail with it, too.
    """

    status: int | None
    title: str
    meaning: str
    remedy: str
    ends_jobs: bool = False
