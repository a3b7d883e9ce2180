"""What every request passes: an id for it, and limits on what is read. No rules of nouns."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message as MimeHeaders
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import strict_json
from app.logs.context import REQUEST_ID
from app.problems import Problem

WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,128}")

MAX_URL_BYTES = 16 * 1024
MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 * 1024  # of all together


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """Of a request's body.

    Args:
        max_bytes: Counted as they arrive: a declared length may lie or be absent.
        seconds: In which all of it must have arrived.
        least_rate: Bytes a second; None: only the end counts.
        stall_seconds: For which nothing may be missing, where there is a rate.
        remedy: What to do about a body that is too large.
    """

    max_bytes: int
    seconds: float
    least_rate: float | None = None
    stall_seconds: float = 0.0
    remedy: str = "Send the spec alone; data is named by reference."


class RequestId:
    """Echoes ``X-Request-ID`` where it is well-formed, and makes one where it is not."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # It is logged and echoed, so not everything will do.
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if WELL_FORMED.fullmatch(given) else uuid4().hex
        scope["request_id"] = request_id
        REQUEST_ID.set(request_id)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        await self.app(scope, receive, send_with_id)


class Limits:
    """Refuses what is too long, too slow or in no form that is read, before anything is done.

    A JSON body is read as a whole and checked; what it holds is left in the scope, as
    ``json_body``. Others are passed on as they arrive.

    Args:
        app: What is behind it.
        bounds: Of a body.
        uploads: Of one that is an upload: anything but JSON, posted to one of these paths.
    """

    def __init__(
        self, app: ASGIApp, *, bounds: Bounds, uploads: Mapping[str, Bounds] | None = None
    ) -> None:
        self.app = app
        self.bounds = bounds
        self.uploads = uploads or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_json = _is_json(headers)
        is_other_post = scope["method"] == "POST" and not is_json
        upload = self.uploads.get(scope["path"]) if is_other_post else None
        body = _Body(receive, upload or self.bounds)
        try:
            _check_head(scope, headers)
            if upload:
                _check_length(headers, upload)
            else:
                _check_coding(headers)
            if is_json and (content := await body.read()):
                scope["json_body"] = strict_json.parse(content)
        except Problem as problem:
            await problem.answer(scope["request_id"])(scope, receive, send)
            return

        async def send_noticed(message: Message) -> None:
            body.answered = True
            await send(message)

        await self.app(scope, body.receive, send_noticed)


class _Body:
    def __init__(self, receive: Receive, bounds: Bounds) -> None:
        self.answered = False
        self._receive = receive
        self._bounds = bounds
        self._began = asyncio.get_running_loop().time()
        self._arrived = 0
        self._complete = False
        self._kept: list[Message] = []

    async def read(self) -> bytes:
        """All of it; it is kept, to be received once more."""
        kept: list[Message] = []
        while not self._complete:
            kept.append(await self.receive())
        self._kept = kept[::-1]
        return b"".join(message.get("body", b"") for message in kept)

    async def receive(self) -> Message:
        if self._kept:
            return self._kept.pop()
        if self._complete:
            # What comes now is that the client has gone.
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline()):
                message = await self._receive()
        except TimeoutError:
            return self._give_up(_too_slow())
        self._arrived += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._arrived > self._bounds.max_bytes:
            return self._give_up(_too_large(self._bounds))
        return message

    def _deadline(self) -> float:
        """When the next of it must be there."""
        bounds = self._bounds
        if bounds.least_rate is None:
            return self._began + bounds.seconds
        earned = self._began + bounds.stall_seconds + self._arrived / bounds.least_rate
        now = asyncio.get_running_loop().time()
        return min(now + bounds.stall_seconds, earned, self._began + bounds.seconds)

    def _give_up(self, problem: Problem) -> Message:
        if self.answered:
            # It is too late to say why.
            return {"type": "http.disconnect"}
        raise problem


def _is_json(headers: Headers) -> bool:
    # As FastAPI decides it: what it reads as JSON must have been looked at here.
    given = headers.get("content-type")
    if not given:
        return False
    mime = MimeHeaders()
    mime["content-type"] = given
    subtype = mime.get_content_subtype()
    return mime.get_content_maintype() == "application" and (
        subtype == "json" or subtype.endswith("+json")
    )


def _check_head(scope: Scope, headers: Headers) -> None:
    if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_URL_BYTES:
        raise Problem(
            414,
            "uri_too_long",
            f"Path and query have more than {MAX_URL_BYTES} bytes.",
            remedy="Send next_cursor as it came; no other parameter is long.",
        )
    size = sum(len(name) + len(value) for name, value in headers.raw)
    if len(headers.raw) > MAX_HEADERS or size > MAX_HEADER_BYTES:
        raise Problem(
            431,
            "headers_too_large",
            f"There are more than {MAX_HEADERS} headers, or {MAX_HEADER_BYTES} bytes of them.",
            remedy="Send only those that are needed.",
        )


def _check_length(headers: Headers, bounds: Bounds) -> None:
    # Of what may take minutes, it is told before.
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > bounds.max_bytes:
        raise _too_large(bounds)


def _check_coding(headers: Headers) -> None:
    # Bytes that unpack to many more are nothing that a spec needs.
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise Problem(
            415,
            "unsupported_media_type",
            "The body is compressed.",
            field="Content-Encoding",
            remedy="Send it as it is, without Content-Encoding.",
            headers={"Accept-Encoding": "identity"},
        )


def _too_slow() -> Problem:
    return Problem(
        408,
        "body_too_slow",
        "The body did not arrive in time.",
        remedy="Send it again, at once, and no slower than the network allows.",
        headers={"Connection": "close"},
    )


def _too_large(bounds: Bounds) -> Problem:
    return Problem(
        413,
        "body_too_large",
        f"The body has more than {bounds.max_bytes} bytes.",
        remedy=bounds.remedy,
        headers={"Connection": "close"},
    )
