"""Whether what a spec refers to is there: its model, its data, and the jobs that it names.

What only reading them can tell fails the job later.
"""

from collections.abc import Callable, Iterator

from sqlalchemy.ext.asyncio import AsyncSession

from app.artifacts import queries as artifact_queries
from app.datasets import references as uploads
from app.jobs import queries
from app.jobs.states import Status
from app.settings import Settings
from pst_core.comparable import disagreements
from pst_core.errors import (
    BaselineMismatchError,
    BaselineNotFoundError,
    HubDisabledError,
    InvalidDatasetError,
    ModelNotFoundError,
    PstError,
)
from pst_core.references import (
    PACKAGED_DATASETS,
    PACKAGED_MODELS,
    locate_dataset,
    locate_model,
    packaged_columns,
    parse_reference,
)
from pst_core.spec import CompressionSpec

# What the core knows nothing of.
ROOTS = (
    " The operator names the roots in PST_FILE_ROOTS. Rows of yours can be uploaded instead: "
    "`pst datasets upload`, POST /datasets."
)


async def check(
    session: AsyncSession, settings: Settings, project_id: str, spec: CompressionSpec
) -> None:
    """Refuse at once what cannot work.

    Raises:
        PstError: A reference leads nowhere, a packaged dataset has no such column, or the baseline
            is none for this job.
        Problem: 409 where its dataset is not checked yet.
    """
    check_references(spec, settings)
    await check_base(session, project_id, spec)
    await check_baseline(session, project_id, spec)
    await uploads.check(session, project_id, spec)


def _usable(field: str, settings: Settings) -> Iterator[str]:
    """What of the installed packages is a model, or a dataset, as it is written."""
    for name in settings.packages:
        if field == "model" and name in PACKAGED_MODELS:
            yield f"pkg:{name}"
        elif field != "model" and name in PACKAGED_DATASETS:
            yield from (f"pkg:{name}/{part}" for part in PACKAGED_DATASETS[name].parts)


def check_references(spec: CompressionSpec, settings: Settings) -> None:
    """Refuse at once what cannot work; what only reading the data can tell fails the job later."""
    model, dataset = parse_reference(spec.model), parse_reference(spec.dataset.ref)
    for text, reference, error, field in (
        (spec.model, model, ModelNotFoundError, "model"),
        (spec.dataset.ref, dataset, InvalidDatasetError, "dataset.ref"),
    ):
        if reference.scheme == "hub" and not settings.hub_endpoint:
            raise HubDisabledError(
                f"{text} lies on a hub, and this installation fetches from none.",
                field=field,
                remedy="Use pkg:NAME or file:PATH, or have the operator set PST_HUB_ENDPOINT.",
            )
        if reference.scheme == "pkg" and reference.name not in settings.packages:
            raise error(
                f"{text} is not among the packages this service may use.",
                field=field,
                remedy=f"It may use: {', '.join(_usable(field, settings))}.",
            )
    if model.scheme == "hub" and model.part:
        raise ModelNotFoundError(
            f"{spec.model} is a part of a repository.",
            field="model",
            remedy="A model is a whole one: hub:ORG/NAME, with @REVISION behind it or not.",
        )
    if model.scheme not in ("hub", "job"):
        _locate(locate_model, spec.model, settings)
    if dataset.scheme not in ("hub", "dataset"):
        _locate(locate_dataset, spec.dataset.ref, settings)
    columns = packaged_columns(spec.dataset.ref)
    for role, column in spec.columns().items():
        if columns is not None and column not in columns:
            raise InvalidDatasetError(
                f"{spec.dataset.ref} has no column {column!r}.",
                field=f"dataset.columns.{role}",
                remedy=f"Its columns are: {', '.join(columns)}.",
            )


def _locate(locate: Callable[..., object], text: str, settings: Settings) -> None:
    try:
        locate(text, roots=settings.file_roots)
    except PstError as error:
        if parse_reference(text).scheme == "file":
            error.remedy += ROOTS
        raise


async def check_base(session: AsyncSession, project_id: str, spec: CompressionSpec) -> None:
    """Refuse a model that is a job without a checkpoint to start from.

    Raises:
        ModelNotFoundError: The same for another project's job and for none at all.
    """
    if parse_reference(spec.model).scheme == "job":
        base = artifact_queries.base_checkpoint(project_id, spec.model)
        if await session.scalar(base) is None:
            raise no_base(spec.model)


def no_base(job_id: str) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"The project has no job {job_id} that has succeeded and published `dense` or `packed`.",
        field="model",
        remedy="Name a finished job of this project that was asked for one of these formats.",
    )


async def check_baseline(session: AsyncSession, project_id: str, spec: CompressionSpec) -> None:
    """Refuse a yardstick that can be none; one that still trains is waited for.

    Raises:
        BaselineNotFoundError: The same for another project's job and for none at all.
        BaselineMismatchError: It was asked for another model, other data or another seed.
    """
    if (job_id := spec.baseline_job) is None:
        return
    # Locked, so that it is still there when the job that refers to it is written.
    lock = queries.one(project_id, job_id).with_for_update(read=True, key_share=True)
    dense = await session.scalar(lock)
    if dense is None or dense.status in (Status.FAILED, Status.CANCELLED):
        raise no_baseline(job_id)
    if others := list(disagreements(spec, CompressionSpec.stored(dense.spec))):
        named = " and another ".join(others)
        raise BaselineMismatchError(
            f"{job_id} is no yardstick for this job: it has another {named}.",
            field="baseline",
            remedy="Name a job whose method is dense, with the same of each, or ask for train.",
        )


def no_baseline(job_id: str) -> BaselineNotFoundError:
    return BaselineNotFoundError(
        f"The project has no job {job_id} that has trained a dense model, or is about to.",
        field="baseline",
        remedy="Name a job of this project whose method is dense, or ask for baseline: train.",
    )
