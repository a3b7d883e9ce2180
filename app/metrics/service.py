"""Reading a job's series."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.jobs import queries
from app.jobs.tables import JobMetric


async def page(session: AsyncSession, job_id: str, *, after: int, limit: int) -> list[JobMetric]:
    return list(await session.scalars(queries.metrics(job_id, after=after, limit=limit)))
