"""The messages that wait for a worker, counted where they wait."""

from app.queue import JOBS_QUEUE, sender


class WakeUps:
    """Those that come from now on."""

    def __init__(self, url: str) -> None:
        self._sender = sender(url)
        with self._sender.connection_for_read() as connection:
            connection.default_channel.queue_purge(JOBS_QUEUE)

    def __len__(self) -> int:
        with self._sender.connection_for_read() as connection:
            return int(connection.default_channel.client.llen(JOBS_QUEUE))
