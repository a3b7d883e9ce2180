"""A job's events as server-sent events (WHATWG HTML, section 9.2).

Every block has a number, so that a client whose connection broke goes on where it was.
"""

import json
import random
from collections.abc import Sequence

from app.accept import EVENT_STREAM
from app.events.schemas import JobEventOut
from app.jobs import queries
from app.jobs.tables import Job, JobEvent
from app.streams.feeds import Feeds, Stream
from app.streams.response import LiveResponse, Write

PAGE = 100
# Of milliseconds: clients that were all cut at once do not come again all at once.
RETRY = (1000, 3000)
# A comment; without an empty line behind it, which some clients take for an event.
HEARTBEAT = b":\n"


class EventStream(LiveResponse):
    """Ends once the job has ended and its client has all events.

    A retry begins another run, whose events go on in the same row of numbers.
    """

    def __init__(self, job: Job, key_id: str, feeds: Feeds, *, after: int) -> None:
        super().__init__(job, key_id, feeds, EVENT_STREAM)
        self._after = after

    async def follow(self, stream: Stream, write: Write) -> None:
        feed, last = stream.feed, self._after
        await write(f"retry: {random.randint(*RETRY)}\n".encode())
        while True:
            standing = feed.standing
            if last < standing.newest:
                events = await self._events(feed.events, last)
                await write(b"".join(map(encode, events)))
                last = events[-1].seq
            elif last == standing.newest and standing.ended:
                return
            # Read for itself it may know more than the poller, who then tells how the job stands.
            elif not await feed.wait(self.feeds.settings.stream_heartbeat_seconds):
                await write(HEARTBEAT)

    async def _events(self, newest: Sequence[JobEvent], last: int) -> Sequence[JobEvent]:
        if newest and newest[0].seq <= last + 1:
            return [event for event in newest if event.seq > last]
        return await self.feeds.read(queries.events(self.job_id, after=last, limit=PAGE))


def encode(event: JobEvent) -> bytes:
    """One block. Its data is one line of ASCII, whatever line ends and signs are in the event."""
    data = json.dumps(JobEventOut.model_validate(event).model_dump(mode="json"))
    return f"id: {event.seq}\nevent: {event.type}\ndata: {data}\n\n".encode("ascii")
