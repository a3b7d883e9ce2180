"""Several jobs as one: made, followed, compared and picked of."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from app.client.transport import Transport, once
from app.sweeps.schemas import Front, Picked, SweepDetail, SweepSummary
from app.sweeps.states import SweepStatus

ENDED = frozenset(
    {
        SweepStatus.SUCCEEDED,
        SweepStatus.PARTLY_FAILED,
        SweepStatus.FAILED,
        SweepStatus.CANCELLED,
    }
)
LOOK_SECONDS = 2.0
Constraints = Mapping[str, Any]
Action = Literal["cancel", "pause", "resume"]


class Sweeps:
    def __init__(self, transport: Transport, *, look_seconds: float = LOOK_SECONDS) -> None:
        self._transport = transport
        self._look_seconds = look_seconds

    def create(
        self, request: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> SweepDetail:
        headers = once(idempotency_key)
        return self._transport.post("/sweeps", SweepDetail, request, headers=headers)

    def list(self, *, most: int | None = None) -> Iterator[SweepSummary]:
        """The newest first."""
        return self._transport.pages("/sweeps", SweepSummary, most=most)

    def get(self, sweep_id: str) -> SweepDetail:
        return self._transport.get(f"/sweeps/{sweep_id}", SweepDetail)

    def changes(self, sweep_id: str) -> Iterator[SweepDetail]:
        """How it stands now, and after each change, until all its jobs have ended."""
        last = None
        while True:
            sweep = self.get(sweep_id)
            if sweep != last:
                yield sweep
            if sweep.status in ENDED:
                return
            last = sweep
            time.sleep(self._look_seconds)

    def act(self, sweep_id: str, action: Action) -> SweepDetail:
        return self._transport.post(f"/sweeps/{sweep_id}/{action}", SweepDetail, repeatable=True)

    def delete(self, sweep_id: str) -> None:
        """With all its jobs and all that they stored."""
        self._transport.delete(f"/sweeps/{sweep_id}")

    def front(self, sweep_id: str, size_of: str = "packed") -> Front:
        return self._transport.get(f"/sweeps/{sweep_id}/front", Front, {"size_of": size_of})

    def find(self, sweep_id: str, constraints: Constraints) -> Picked:
        """The job that satisfies the constraints; nothing is stored.

        Args:
            sweep_id: Of the sweep.
            constraints: As `GET /sweeps/{id}/pick` has them; those that are None are left out.
        """
        query = {name: value for name, value in constraints.items() if value is not None}
        return self._transport.get(f"/sweeps/{sweep_id}/pick", Picked, query)

    def pick(self, sweep_id: str, constraints: Constraints) -> SweepDetail:
        """Have the sweep's name lead to that job, or to the one that is named by `job_id`."""
        body = {name: value for name, value in constraints.items() if value is not None}
        return self._transport.put(f"/sweeps/{sweep_id}/pick", SweepDetail, body)
