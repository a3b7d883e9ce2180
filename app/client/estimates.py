"""What a job would take, asked before it is posted."""

from collections.abc import Mapping
from typing import Any

from app.client.transport import Transport
from app.estimates.schemas import Accuracies, EstimateDetail
from app.estimates.states import DONE

WAIT = 30


class Estimates:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, spec: Mapping[str, Any]) -> EstimateDetail:
        """Ask for one, and wait until it is done; it may have failed, as such a job would."""
        found = self._transport.post("/estimates", EstimateDetail, spec)
        while found.status not in DONE:
            found = self.get(found.id, wait=WAIT)
        return found

    def get(self, estimate_id: str, *, wait: float = 0) -> EstimateDetail:
        return self._transport.get(f"/estimates/{estimate_id}", EstimateDetail, {"wait": wait})

    def accuracy(self) -> Accuracies:
        """What was foreseen of finished jobs, beside what came."""
        return self._transport.get("/estimates/accuracy", Accuracies)
