"""Counts requests and times them, and has each logged in a line when it has been answered.

The outermost of all that a request passes, and pure ASGI: it costs microseconds.
"""

import logging
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.connections import SEND_FILE, SendFile

if TYPE_CHECKING:
    from app.security import Caller

logger = logging.getLogger("app.access")

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OWN = frozenset({"method", "route", "key_id"})  # of our making, with no secret to look for
LEFT = 499  # as nginx has it
PROBES = frozenset({"/healthz", "/readyz"})  # asked every few seconds: logged if they fail
OTHER = "other"  # a method or path that is none of ours: callers must not make series
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class RequestMetrics:
    """Of one API process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.count = Counter(
            "pst_http_requests",
            "Requests that were answered.",
            ["method", "route", "status"],
            registry=registry,
        )
        self.duration = Histogram(
            "pst_http_request_duration_seconds",
            "Until the answer began; what is streamed goes on after that.",
            ["method", "route"],
            buckets=BUCKETS,
            registry=registry,
        )
        self.under_way = Gauge(
            "pst_http_requests_in_progress",
            "Requests at work, streams included.",
            registry=registry,
        )


@dataclass(slots=True)
class _Answer:
    """What is seen of one on its way out."""

    # Who leaves before the answer begins is answered with nothing.
    status: int = LEFT
    began: float | None = None
    sent: int = 0

    def note(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.began = message["status"], time.perf_counter()
        else:
            self.sent += len(message.get("body", b""))

    def fail(self) -> None:
        if self.began is None:
            self.status = HTTPStatus.INTERNAL_SERVER_ERROR

    def counting(self, send_file: SendFile) -> SendFile:
        """The same, for what does not pass as messages."""

        async def counted(descriptor: int, start: int, stop: int) -> bool:
            self.sent += stop - start
            return await send_file(descriptor, start, stop)

        return counted


class Observe:
    """Around everything else, so that it sees what they refuse."""

    def __init__(self, app: ASGIApp, *, metrics: RequestMetrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, answer = time.perf_counter(), _Answer()
        if send_file := scope.get("extensions", {}).get(SEND_FILE):
            scope["extensions"][SEND_FILE] = answer.counting(send_file)

        async def noticing(message: Message) -> None:
            answer.note(message)
            await send(message)

        self.metrics.under_way.inc()
        try:
            await self.app(scope, receive, noticing)
        except Exception:
            # What is unexpected is answered further out.
            answer.fail()
            raise
        finally:
            ended = time.perf_counter()
            self.metrics.under_way.dec()
            self._note(scope, answer.status, (answer.began or ended) - began)
            is_noise = route_of(scope) in PROBES and answer.status < HTTPStatus.BAD_REQUEST
            if logger.isEnabledFor(logging.INFO) and not is_noise:
                _log(scope, answer.status, ended - began, answer.sent)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else OTHER
        route = route_of(scope)
        self.metrics.count.labels(method, route, str(status)).inc()
        self.metrics.duration.labels(method, route).observe(seconds)


def route_of(scope: Scope) -> str:
    """The template that matched, never the path itself."""
    path = getattr(scope.get("route"), "path", None)
    return OTHER if path is None else f"{scope.get('root_path', '')}{path}"


def _log(scope: Scope, status: int, seconds: float, sent: int) -> None:
    caller: Caller | None = scope.get("state", {}).get("caller")
    fields = {
        "method": scope["method"] if scope["method"] in METHODS else OTHER,
        "route": route_of(scope),
        "status": status,
        "ms": round(seconds * 1000, 1),
        "bytes": sent,
        # Its public part; the key itself is known to nobody here.
        "key_id": caller.key_id if caller else None,
        "request_id": scope.get("request_id"),
    }
    logger.info("request", extra={"fields": fields, "own": OWN})
