"""What a key may be used for. Free of the database, so that clients can name it too."""

from enum import StrEnum


class Scope(StrEnum):
    """Each route names the one it needs."""

    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    DATASETS_WRITE = "datasets:write"
    ADMIN = "admin"
    """All of the others, and the project's keys."""


# What a pipeline needs.
ORDINARY = (Scope.JOBS_READ, Scope.JOBS_WRITE, Scope.DATASETS_WRITE)
