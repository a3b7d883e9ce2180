"""All tables in one import, for who needs the whole metadata: migrations and tests."""

from app.artifacts.tables import Artifact
from app.datasets.tables import Dataset
from app.db import Base
from app.estimates.tables import Estimate
from app.idempotency.tables import IdempotencyKey
from app.jobs.tables import Job, JobEvent, JobMetric
from app.projects.tables import ApiKey, Project
from app.sweeps.tables import Sweep, SweepPick
from app.webhooks.tables import WebhookDelivery, WebhookEndpoint

__all__ = [
    "ApiKey",
    "Artifact",
    "Base",
    "Dataset",
    "Estimate",
    "IdempotencyKey",
    "Job",
    "JobEvent",
    "JobMetric",
    "Project",
    "Sweep",
    "SweepPick",
    "WebhookDelivery",
    "WebhookEndpoint",
]
