"""A form with a file, read as it arrives: its name first, then the file, never all at once."""

from collections.abc import AsyncIterator

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from app.problems import Problem

MOST_FIELD_BYTES = 4096
MOST_PARTS = 10
NAME = "name"


class Upload:
    """One form's field `name`, and the bytes of its one file.

    Args:
        request: Its body is read by `begin`, up to the file, and by `file`.
    """

    def __init__(self, request: Request) -> None:
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        if kind != b"multipart/form-data" or b"boundary" not in options:
            raise _unreadable()
        self.name = ""
        self.file_name: str | None = None
        self._body = request.stream()
        self._chunks: list[bytes] = []
        self._field, self._field_name = bytearray(), ""
        self._header, self._value = bytearray(), bytearray()
        self._headers: dict[str, bytes] = {}
        self._parts = 0
        self._in_file = self._ended = False
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin_part,
                "on_part_data": self._take,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    async def begin(self) -> None:
        """Read up to where the file begins.

        Raises:
            Problem: 400 where there is none, the form is none, or who sends it has gone.
        """
        try:
            while self.file_name is None:
                if not await self._more():
                    raise _unreadable()
        except ClientDisconnect as error:
            raise _unreadable() from error

    async def file(self) -> AsyncIterator[bytes]:
        """The file's bytes; `begin` comes first.

        Raises:
            Problem: 400 where the form breaks off.
        """
        while True:
            chunks, self._chunks = self._chunks, []
            for chunk in chunks:
                yield chunk
            if not self._in_file and not self._chunks:
                break
            if not await self._more():
                raise _unreadable()
        while await self._more():
            pass
        if not self._ended:
            raise _unreadable()

    async def _more(self) -> bool:
        async for data in self._body:
            try:
                self._parser.write(data)
            except FormParserError as error:
                raise _unreadable() from error
            return True
        return False

    def _end_header(self) -> None:
        self._headers[self._header.decode("latin-1").lower()] = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise _unreadable()
        _, options = parse_options_header(self._headers.get("content-disposition", b""))
        self._headers.clear()
        self._field_name = options.get(b"name", b"").decode("utf-8", "replace")
        if self.file_name is None and b"filename" in options:
            self.file_name = options[b"filename"].decode("utf-8", "replace")
            self._in_file = True

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._chunks.append(data[start:end])
            return
        if len(self._field) + end - start > MOST_FIELD_BYTES:
            raise _unreadable()
        self._field += data[start:end]

    def _end_part(self) -> None:
        # Of other fields nothing is kept.
        if not self._in_file and self._field_name == NAME:
            self.name = self._field.decode("utf-8", "replace").strip()
        self._in_file = False
        self._field.clear()

    def _end(self) -> None:
        self._ended = True


def _unreadable() -> Problem:
    return Problem(
        400,
        "bad_request",
        "The form has no file, breaks off, or is none that is read here.",
        remedy="Choose a file, and send the form again.",
    )
