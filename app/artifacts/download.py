"""Stored bytes as an answer: conditions, one range, a file that is gone or no longer the same."""

import base64
import re
from collections.abc import Mapping
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.artifacts.conditions import Wanted, refused, wanted
from app.artifacts.contents import Contents
from app.artifacts.parts import Part
from app.artifacts.sources import Source, opened
from app.storage import Storage

# A bucket has tags of its own, and would find none of ours to be its.
OUR_TAGS = ("if-match", "if-range")
UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


class Download(Response):
    """A part of a stored object.

    It is looked at when it is sent, after the request's transaction has ended: hashing it for the
    first time may take longer than that may last.
    """

    media_type = "application/octet-stream"

    def __init__(
        self,
        part: Part,
        storage: Storage,
        contents: Contents,
        *,
        media_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(media_type=media_type)
        self._part = part
        self._storage = storage
        self._contents = contents
        self._about = {
            "ETag": f'"{part.sha256}"',
            "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(part.sha256)).decode()}:",
            "Accept-Ranges": "bytes",
            **(headers or {}),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it.

        Raises:
            Problem: 410 where the object is gone, 502 where it is no longer what was published,
                412 and 416 as RFC 9110 has it.
            StorageError: The storage does not answer.
        """
        request = Headers(scope=scope)
        async with opened(self._part, self._storage, self._contents) as source:
            found = wanted(
                scope["method"], request, entity_tag=self._about["ETag"], size=self._part.size
            )
            answer = await self._answer(scope["method"], request, found, source)
            await answer(scope, receive, send)

    async def _answer(
        self, method: str, request: Headers, found: Wanted, source: Source
    ) -> Response:
        if found.status in (
            HTTPStatus.PRECONDITION_FAILED,
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
        ):
            raise refused(found, self._part.size)
        if found.status == HTTPStatus.NOT_MODIFIED:
            return Response(status_code=304, headers=self._about)
        headers = {
            **self._about,
            "Content-Length": str(found.stop - found.start),
            "Content-Disposition": f'attachment; filename="{UNSAFE.sub("_", self._part.name)}"',
            "X-Content-Type-Options": "nosniff",
        }
        if found.status == HTTPStatus.PARTIAL_CONTENT:
            last = found.stop - 1
            headers["Content-Range"] = f"bytes {found.start}-{last}/{self._part.size}"
        if method == "HEAD":
            return Response(headers=headers, media_type=self.media_type)
        if not any(tag in request for tag in OUR_TAGS) and (link := await source.link()):
            return self._redirect(link)
        return await source.body(found, headers, self.media_type)

    def _redirect(self, link: str) -> Response:
        about = {
            "Location": link,
            # A link is good for a while, and for whoever has it.
            "Cache-Control": "no-store",
            "Repr-Digest": self._about["Repr-Digest"],
            "X-Linked-ETag": self._about["ETag"],
            "X-Linked-Size": str(self._part.size),
        }
        return Response(status_code=HTTPStatus.TEMPORARY_REDIRECT, headers=about)
