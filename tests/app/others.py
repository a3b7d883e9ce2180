"""What another project has, and what nobody has: to be asked for by who may not see it."""

from collections.abc import Mapping

from sqlalchemy import Connection, select

from app.artifacts.tables import Artifact
from app.datasets.tables import Dataset
from app.estimates.tables import Estimate
from app.jobs.tables import Job, JobEvent
from app.projects.tables import ApiKey
from app.sweeps.tables import Sweep, SweepPick
from app.webhooks.tables import WebhookDelivery, WebhookEndpoint

# By the parameters of paths.
Ids = Mapping[str, str]
NOBODYS: Ids = {
    "job_id": "job_" + "0" * 32,
    "key_id": "00000000",
    "dataset_id": "ds_" + "0" * 32,
    "estimate_id": "est_" + "0" * 32,
    "sweep_id": "swp_" + "0" * 32,
    "endpoint_id": "whe_" + "0" * 32,
    "delivery_id": "msg_" + "0" * 32,
}
TABLES = (
    Job,
    JobEvent,
    Artifact,
    ApiKey,
    Dataset,
    Estimate,
    Sweep,
    SweepPick,
    WebhookEndpoint,
    WebhookDelivery,
)


def estimate_of(job_id: str) -> str:
    """The id of the one that is as much another project's, or nobody's, as the job."""
    return job_id.replace("job_", "est_")


def state(connection: Connection) -> list[object]:
    with connection.begin():
        return [connection.execute(select(table)).all() for table in TABLES]
