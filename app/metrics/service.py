"""Reading a job's series."""

import csv
import io
from collections.abc import AsyncIterator, Iterable

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.jobs.tables import JobMetric
from app.metrics import queries
from app.metrics.schemas import JobMetricOut

COLUMNS = tuple(JobMetricOut.model_fields)
CSV_ROWS = 5000  # a chunk: some hundred kilobytes, however long the series


async def page(session: AsyncSession, job_id: str, *, after: int, limit: int) -> list[JobMetric]:
    return list(await session.scalars(queries.page(job_id, after=after, limit=limit)))


async def outline(session: AsyncSession, job_id: str, points: int) -> list[JobMetric]:
    return list(await session.scalars(queries.outline(job_id, points)))


async def whole_csv(
    sessions: async_sessionmaker[AsyncSession], job_id: str
) -> AsyncIterator[bytes]:
    """The whole series as CSV (RFC 4180), in chunks; no connection is held between them."""
    last, header = 0, True
    while True:
        async with sessions() as session:
            metrics = await page(session, job_id, after=last, limit=CSV_ROWS)
        if header or metrics:
            yield as_csv(metrics, header=header)
        if len(metrics) < CSV_ROWS:
            return
        last, header = metrics[-1].step, False


def as_csv(metrics: Iterable[JobMetric], *, header: bool = True) -> bytes:
    """Numbers, and the name of a stage of ours: nothing that a spreadsheet takes for a formula."""
    text = io.StringIO()
    writer = csv.writer(text)
    if header:
        writer.writerow(COLUMNS)
    writer.writerows([getattr(metric, name) for name in COLUMNS] for metric in metrics)
    return text.getvalue().encode()
