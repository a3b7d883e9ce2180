"""A form with a file in it, as it arrives or does not."""

import asyncio

import pytest
from fastapi import Request
from starlette.types import Message

from app.problems import Problem
from app.web.multipart import Upload


def test_who_goes_before_the_file_begins_is_no_fault_of_the_service() -> None:
    arriving: list[Message] = [
        {"type": "http.request", "body": b"--x\r\n", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return arriving.pop(0)

    headers = [(b"content-type", b"multipart/form-data; boundary=x")]
    form = Upload(Request({"type": "http", "headers": headers}, receive))

    with pytest.raises(Problem) as refused:
        asyncio.run(form.begin())
    assert refused.value.status_code == 400
