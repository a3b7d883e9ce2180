"""All tables in one import, for who needs the whole metadata: migrations and tests."""

from app.artifacts.tables import Artifact
from app.db import Base
from app.estimates.tables import Estimate
from app.idempotency.tables import IdempotencyKey
from app.jobs.tables import Job, JobEvent, JobMetric
from app.projects.tables import ApiKey, Project

__all__ = [
    "ApiKey",
    "Artifact",
    "Base",
    "Estimate",
    "IdempotencyKey",
    "Job",
    "JobEvent",
    "JobMetric",
    "Project",
]
