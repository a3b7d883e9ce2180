"""What a job tells as it goes: its events and its log, gone on with where a connection broke."""

import json
from collections.abc import Iterator
from http import HTTPStatus

from app.client.errors import ClientError, UnexpectedAnswerError
from app.client.transport import Transport, checked
from app.events.schemas import JobEventOut
from app.jobs.schemas import JobDetail
from app.jobs.states import TERMINAL


def follow_events(transport: Transport, job_id: str, after: int) -> Iterator[JobEventOut]:
    """The events after one, until the service says that there will be no more."""
    outage = transport.outage()
    while True:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        try:
            with transport.stream("GET", f"/jobs/{job_id}/events", headers=headers) as answer:
                if answer.status_code == HTTPStatus.NO_CONTENT:
                    return
                for data in data_of(answer.iter_lines()):
                    event = _event(data)
                    after = event.seq
                    outage.end()
                    yield event
        except ClientError as error:
            transport.absorb(outage, error)


def data_of(lines: Iterator[str]) -> Iterator[str]:
    """The data of each whole event of a stream (WHATWG HTML, section 9.2).

    One without its empty line has not come whole, and comes again.
    """
    data: list[str] = []
    for line in lines:
        field, _, value = line.partition(":")
        if not line and data:
            yield "\n".join(data)
            data = []
        elif field == "data":
            data.append(value.removeprefix(" "))


def follow_log(transport: Transport, job_id: str, tail: int | None) -> Iterator[bytes]:
    """The log, or its last lines, and what is added to it until the job has ended."""
    path = f"/jobs/{job_id}/logs"
    shown = 0 if tail is None else _where(transport, path, tail)
    outage = transport.outage()
    while True:
        try:
            with transport.stream("GET", path, params={"follow": True}) as answer:
                position = 0
                for chunk in answer.iter_bytes():
                    # It comes from its start each time: what was shown is skipped.
                    new = chunk[max(shown - position, 0) :]
                    position += len(chunk)
                    if new:
                        shown = position
                        outage.end()
                        yield new
            # Streams end with the job, or after some hours.
            if transport.get(f"/jobs/{job_id}", JobDetail).status in TERMINAL:
                return
        except ClientError as error:
            transport.absorb(outage, error)


def _where(transport: Transport, path: str, tail: int) -> int:
    """The byte at which the last lines begin."""
    whole = transport.send("HEAD", path)
    last = transport.send("GET", path, query={"tail": tail})
    return max(int(whole.headers.get("Content-Length", "0")) - len(last.content), 0)


def _event(data: str) -> JobEventOut:
    try:
        return checked(JobEventOut, json.loads(data))
    except json.JSONDecodeError as error:
        raise UnexpectedAnswerError(f"an event: {error}") from error
