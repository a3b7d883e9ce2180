"""The rules of estimates: ask for one, look at it, and how good they have been."""

import asyncio
import time

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.estimates import accuracy, fitting, queries
from app.estimates.measured import Measurement
from app.estimates.schemas import (
    Accuracies,
    DeviceEstimate,
    EstimateDetail,
    Memory,
)
from app.estimates.states import DONE
from app.estimates.tables import Estimate
from app.estimates.timing import forecast_seconds, same_shape
from app.ids import new_id
from app.jobs.references import check
from app.jobs.schemas import JobCreate
from app.jobs.service import NO_SPEC
from app.problems import Problem, not_found
from app.settings import Settings
from pst_core.forecast import DeviceClass, Forecast
from pst_core.references import parse_reference
from pst_core.spec import CompressionSpec

MAX_OPEN = 20  # of a project: each takes a process some seconds
LOOK_SECONDS = 0.3


async def submit(
    session: AsyncSession, settings: Settings, project_id: str, request: JobCreate
) -> str:
    """Write down what is to be estimated; its id.

    Raises:
        PstError: As for a job.
        Problem: 422 where the model would have to be fetched first; 429 where the project has too
            many that are not done.
    """
    await check(session, settings, project_id, request)
    if parse_reference(request.model).scheme == "hub":
        raise Problem(
            422,
            "model_not_here",
            f"{request.model} lies on a hub: without its configuration nothing is known of it.",
            field="model",
            remedy="Estimate with a model of the same architecture that is here, as pkg:NAME or "
            "file:PATH, or with a finished job of this model, as job_….",
        )
    if (await session.scalar(queries.open_ones(project_id)) or 0) >= MAX_OPEN:
        raise Problem(
            429,
            "quota_exceeded",
            f"estimates: {MAX_OPEN} of the project are not done yet.",
            remedy="Wait until some are.",
            headers={"Retry-After": "10"},
        )
    estimate_id, spec = new_id("est"), request.model_dump(mode="json", exclude=NO_SPEC)
    await session.execute(queries.ask(estimate_id, project_id, spec))
    return estimate_id


async def show(session: AsyncSession, project_id: str, estimate_id: str) -> EstimateDetail:
    """One estimate, with what jobs have taken since.

    Raises:
        Problem: 404, the same for another project's and for none at all.
    """
    which = {"project_id": project_id, "estimate_id": estimate_id}
    found = (await session.scalars(queries.one(), which)).one_or_none()
    if found is None:
        raise not_found("estimate")
    shown = EstimateDetail.model_validate(found)
    if shown.forecast is None:
        return shown
    rows = await session.execute(queries.measurements())
    known = [Measurement.of(row) for row in rows]
    return shown.model_copy(update={"devices": _devices(found, shown.forecast, known)})


async def wait(
    sessions: async_sessionmaker[AsyncSession], project_id: str, estimate_id: str, seconds: float
) -> EstimateDetail:
    """The estimate once it is done, or as it is after some time; no connection is held between."""
    deadline = time.monotonic() + seconds
    while True:
        async with sessions() as session:
            shown = await show(session, project_id, estimate_id)
        if shown.status in DONE or time.monotonic() > deadline:
            return shown
        await asyncio.sleep(LOOK_SECONDS)


async def accuracies(session: AsyncSession, project_id: str) -> Accuracies:
    """What was foreseen of the project's jobs, and what they took."""
    rows = list(await session.execute(queries.measurements(project_id)))
    compared = [(Measurement.of(row), Forecast.model_validate(row[3])) for row in rows]
    return Accuracies(data=accuracy.compare(compared))


def _devices(
    estimate: Estimate, forecast: Forecast, known: list[Measurement]
) -> list[DeviceEstimate]:
    spec = CompressionSpec.stored(estimate.spec)
    here = forecast.computed_on
    # The newest of each class, which tells its memory.
    classes: dict[str, DeviceClass] = {here.key: here}
    for each in reversed(known):
        classes[each.measured.device.key] = each.measured.device
    return [_on(device, estimate.project_id, spec, forecast, known) for device in classes.values()]


def _on(
    device: DeviceClass,
    project_id: str,
    spec: CompressionSpec,
    forecast: Forecast,
    known: list[Measurement],
) -> DeviceEstimate:
    memory = _memory(device, project_id, spec, forecast, known)
    fits, change = None, None
    if device.memory_bytes is not None:
        limit = fitting.usable(device.memory_bytes, device.kind)
        fits = memory.peak_bytes <= limit
        if not fits:
            change = fitting.smallest_change(spec, forecast.memory[device.kind], limit)
    return DeviceEstimate(
        device=device,
        memory=memory,
        fits=fits,
        change=change,
        seconds=forecast_seconds(spec, forecast, device, known, project_id=project_id),
    )


def _memory(
    device: DeviceClass,
    project_id: str,
    spec: CompressionSpec,
    forecast: Forecast,
    known: list[Measurement],
) -> Memory:
    here = [each for each in known if each.measured.device.kind == device.kind]
    alike = same_shape(spec, forecast, here, project_id)
    stages = forecast.memory[device.kind]
    if alike:
        # What was measured is the training's alone.
        trained = max(each.measured.peak_memory_bytes for each in alike)
        peak = max(trained, stages.besides)
        return Memory(peak_bytes=peak, basis="measured", jobs=[each.job_id for each in alike])
    return Memory(peak_bytes=stages.peak, basis="model", jobs=[])
