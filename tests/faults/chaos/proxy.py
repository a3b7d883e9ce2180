"""A socket between a server and its clients that can be cut, or go silent.

It also gives a server one address for ever, wherever it listens after a restart.
"""

import asyncio
import threading
from contextlib import suppress
from pathlib import Path

CHUNK = 65536


class Proxy:
    """Serves from a thread of its own, from ``start`` until ``stop``.

    Args:
        path: The socket that clients connect to.
        target: The server's; may change at any time.
    """

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self.target = target
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._stopped = asyncio.Event()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"proxy {path}", daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._listening.wait(10), self.path

    def stop(self) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(10)

    def cut(self) -> None:
        """Close all connections, on both sides."""
        self._loop.call_soon_threadsafe(self._abort)

    def hold(self) -> None:
        """Let nothing through from here on, and say so to nobody."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def release(self) -> None:
        """Let through what was held, as a slow network would."""
        self._loop.call_soon_threadsafe(self._open.set)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_unix_server(self._connected, self.path)
        self._listening.set()
        await self._stopped.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connected(
        self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        self._writers.add(to_client)
        to_server = None
        try:
            await self._open.wait()
            from_server, to_server = await asyncio.open_unix_connection(self.target)
            self._writers.add(to_server)
            ways = [
                asyncio.create_task(self._pass_on(from_client, to_server)),
                asyncio.create_task(self._pass_on(from_server, to_client)),
            ]
            # Whichever side ends it, ends it for both.
            _, left = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in left:
                way.cancel()
        except OSError:
            pass  # the server is away: so is this connection
        finally:
            for writer in (to_client, to_server):
                if writer is not None:
                    self._writers.discard(writer)
                    writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._open.wait()
                writer.write(data)
                await writer.drain()

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
