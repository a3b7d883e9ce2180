"""PostgreSQL and Valkey as child processes of ours, for machines that have neither.

Which of them are needed, and when to start them, is the caller's decision.
"""

from app.embedded.postgres import start_postgres
from app.embedded.server import EmbeddedError, Server
from app.embedded.valkey import start_valkey

__all__ = ["EmbeddedError", "Server", "start_postgres", "start_valkey"]
