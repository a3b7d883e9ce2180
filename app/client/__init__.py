"""A Python client of the service: ``Client(url, key)``, typed by the API's own schemas.

Free of torch, of the database and of the server, and quick to import.
"""

from app.client.client import Client
from app.client.downloads import Downloaded
from app.client.errors import (
    ClientError,
    CorruptDownloadError,
    InvalidInputError,
    RefusedError,
    UnexpectedAnswerError,
    UnreachableError,
)
from app.client.retries import Patience

__all__ = [
    "Client",
    "ClientError",
    "CorruptDownloadError",
    "Downloaded",
    "InvalidInputError",
    "Patience",
    "RefusedError",
    "UnexpectedAnswerError",
    "UnreachableError",
]
