"""Uvicorn, told to end what would otherwise never end by itself."""

import socket

import uvicorn
from fastapi import FastAPI

from app.streams.feeds import Feeds


class Server(uvicorn.Server):
    """Serves an app of ours; when it is stopped, open streams end first and at once."""

    def __init__(self, app: FastAPI, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._feeds: Feeds = app.state.feeds

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Before uvicorn waits for its connections; the app hears of it only after that.
        self._feeds.close()
        await super().shutdown(sockets)
