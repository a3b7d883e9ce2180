"""What a job's spec says of an uploaded dataset, held against what is known of that."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.datasets import queries
from app.datasets.tables import Dataset, State
from app.problems import Problem
from pst_core.dataset_profile import NAME_SHOWN
from pst_core.errors import DatasetNotFoundError, InvalidDatasetError
from pst_core.references import parse_reference
from pst_core.spec import CompressionSpec

FIELD = "dataset.ref"


def named_by(spec: CompressionSpec) -> str | None:
    """The id of the upload that a spec's dataset is; None where it lies elsewhere."""
    reference = parse_reference(spec.dataset.ref)
    return reference.name if reference.scheme == "dataset" else None


async def check(session: AsyncSession, project_id: str, spec: CompressionSpec) -> None:
    """Refuse an upload that cannot be read, and columns that it does not have.

    Raises:
        PstError: The same for another project's dataset and for none at all.
        Problem: 409 while it is not checked.
    """
    dataset_id = named_by(spec)
    if dataset_id is None:
        return
    # Until the job is stored, or was refused, nobody deletes it.
    query = queries.one(project_id, dataset_id).with_for_update(read=True)
    dataset = await session.scalar(query)
    if dataset is None:
        raise not_there(dataset_id)
    if dataset.state == State.INVALID:
        raise InvalidDatasetError(
            f"{dataset_id} cannot be used: {(dataset.error or {}).get('message', '')}",
            field=FIELD,
            remedy="Upload it again without the fault, and name the new one.",
        )
    if dataset.state != State.READY:
        raise Problem(
            409,
            "dataset_not_ready",
            f"{dataset_id} is {dataset.state}.",
            field=FIELD,
            remedy="Wait until its status is ready: GET /datasets/{id} tells.",
            headers={"Retry-After": "2"},
        )
    _check_columns(spec, dataset)


def not_there(dataset_id: str) -> DatasetNotFoundError:
    return DatasetNotFoundError(
        f"The project has no dataset {dataset_id}.",
        field=FIELD,
        remedy="GET /datasets lists those it has; POST /datasets uploads one.",
    )


def _check_columns(spec: CompressionSpec, dataset: Dataset) -> None:
    known = [column["name"] for column in (dataset.profile or {}).get("columns", ())]
    for role, column in spec.dataset.columns.model_dump(exclude_none=True).items():
        if column[:NAME_SHOWN] not in known:
            raise InvalidDatasetError(
                f"{dataset.id} has no column {column!r}.",
                field=f"dataset.columns.{role}",
                remedy=f"Its columns are: {', '.join(known)}.",
            )
