"""What a list of jobs can be narrowed to, as the query of a request says it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated

from fastapi import Query, Request
from pydantic import AfterValidator, AwareDatetime, BeforeValidator

from app.jobs.states import Status
from app.problems import Problem
from pst_core.fields import is_storable
from pst_core.spec import Method

METADATA = "metadata."
PAGING = frozenset({"limit", "cursor"})
DATE = re.compile(r"\d{4}-\d{2}-\d{2}[T ]", re.IGNORECASE | re.ASCII)


def _storable(text: str) -> str:
    if not is_storable(text):
        raise ValueError("must not contain NUL or unpaired surrogates")
    return text


Exactly = Annotated[str, AfterValidator(_storable)]


def _no_number(text: str) -> str:
    # Pydantic would take it for seconds since 1970.
    if not DATE.match(text):
        raise ValueError("must be a date and a time with its offset, as 2026-01-31T12:00:00Z")
    return text


Moment = Annotated[AwareDatetime, BeforeValidator(_no_number)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Filters:
    """All of them hold for each job of the list; of the statuses one."""

    status: tuple[Status, ...] = ()
    model: str | None = None
    method: Method | None = None
    sweep: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    metadata: Mapping[str, str]

    def scope(self, project_id: str) -> str:
        """What a cursor belongs to."""
        return f"{project_id} {sorted(asdict(self).items())}"


def job_filters(
    request: Request,
    status: Annotated[Sequence[Status], Query(description="May come several times.")] = (),
    model: Annotated[Exactly | None, Query(description="As it was posted.")] = None,
    method: Method | None = None,
    sweep: Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_]{1,64}$")] = None,
    created_after: Moment | None = None,
    created_before: Moment | None = None,
) -> Filters:
    """Those of a request; `metadata.NAME=VALUE` is any of the jobs' own.

    Raises:
        Problem: 422: there is no such filter. To ignore it would show more than was asked for.
    """
    known = {"status", "model", "method", "sweep", "created_after", "created_before", *PAGING}
    metadata: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        own = name.removeprefix(METADATA)
        if name not in known and (own == name or not own or own in metadata):
            raise _refused(name, "There is no such filter, or it comes twice.")
        if name not in known:
            if not is_storable(own + value):
                raise _refused(name, "It holds NUL or an unpaired surrogate.")
            metadata[own] = value
    return Filters(
        status=tuple(sorted(set(status))),
        model=model,
        method=method,
        sweep=sweep,
        created_after=created_after,
        created_before=created_before,
        metadata=metadata,
    )


def _refused(name: str, why: str) -> Problem:
    return Problem(
        422,
        "invalid_request",
        f"{name}: {why}",
        field=name,
        remedy="Use status, model, method, sweep, created_after, created_before and metadata.NAME.",
    )
