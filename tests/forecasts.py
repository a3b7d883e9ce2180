"""Forecasts and measurements made by hand, for tests of whoever works with them."""

from contextlib import AbstractContextManager

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.estimates import queries
from app.estimates.examples import examples
from app.estimates.measured import Measured
from app.estimates.states import State
from app.estimates.tables import Estimate
from app.examples import MORE, SMALLEST
from app.jobs.tables import Job
from pst_core.forecast import DeviceClass, Forecast
from pst_core.report import Cost
from pst_core.spec import CompressionSpec
from tests.jobs import bring_to, job_row
from tests.meanwhile import repeated
from tests.reports import report

CPU = DeviceClass(kind="cpu", name="a processor", threads=2, memory_bytes=8_000_000_000)
GPU = DeviceClass(kind="gpu", name="a GPU", threads=8, memory_bytes=24_000_000_000)


def forecast(**changes: object) -> Forecast:
    """That of the API's example: MiniLM, 642 steps of 6.56e10 operations, on either device."""
    found = examples(SMALLEST, MORE)["get_estimate"]["200"]["ready"]["forecast"]
    memory = found["memory"]["cpu"]
    both = {"memory": {"cpu": memory, "gpu": memory}, "computed_on": CPU.model_dump()}
    return Forecast.model_validate(found | both | changes)


def work_out(sessions: sessionmaker[Session], found: Forecast | None = None) -> Estimate:
    """As the worker does with the next one that waits."""
    with sessions.begin() as session:
        estimate: Estimate = session.scalars(queries.claim()).one()
        document = (found or forecast()).model_dump(mode="json")
        session.execute(queries.finish(estimate, document))
    return estimate


def working_out(sessions: sessionmaker[Session]) -> AbstractContextManager[None]:
    """Meanwhile what is asked for is worked out."""

    def work() -> None:
        if any(each.status == State.WAITING for each in estimates_of(sessions)):
            work_out(sessions)

    return repeated(work, every=0.02)


def finished_job(
    sessions: sessionmaker[Session],
    project_id: str,
    *,
    step_seconds: float,
    peak: int = 10**9,
    device: DeviceClass = CPU,
) -> Job:
    """A job that has succeeded, with its estimate beside what it took; 50 s beside training."""
    job = job_row(sessions, bring_to(sessions, project_id, "succeeded"))
    cost = Cost(
        steps=642,
        seconds=642 * step_seconds,
        step_seconds=step_seconds,
        peak_memory_bytes=peak,
    )
    made = report(CompressionSpec.model_validate(job.spec))
    told = made.model_copy(update={"cost": cost, "device": device})
    measured = Measured.of(told, device_seconds=cost.seconds + 50)
    assert measured is not None
    with sessions.begin() as session:
        session.execute(queries.note(job, measured.model_dump(mode="json")))
    work_out(sessions)
    return job


def estimates_of(sessions: sessionmaker[Session]) -> list[Estimate]:
    with sessions() as session:
        return list(session.scalars(select(Estimate).order_by(Estimate.id)))
