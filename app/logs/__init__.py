"""How every process of ours logs: one record a line, on stderr, without secrets."""

from app.logs.context import name_work
from app.logs.setup import configure

__all__ = ["configure", "name_work"]
