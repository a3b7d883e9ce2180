"""Statements about the series of jobs' training steps."""

from sqlalchemy import Select, func, or_, select

from app.jobs.tables import JobMetric


def page(job_id: str, *, after: int, limit: int) -> Select[JobMetric]:
    """In order, the steps behind one."""
    return (
        select(JobMetric)
        .where(JobMetric.job_id == job_id, JobMetric.step > after)
        .order_by(JobMetric.step)
        .limit(limit)
    )


def outline(job_id: str, points: int) -> Select[JobMetric]:
    """At the most so many steps that show the whole series, in order.

    The first, the last, and of each of equally long stretches those with the least and the greatest
    loss, so that no peak is lost. A series that is short enough is whole.

    Args:
        job_id: Of the job.
        points: At least 4.
    """
    stretches = (points - 2) // 2
    number = func.row_number().over(order_by=JobMetric.step)
    count = func.count().over()
    numbered = (
        select(
            JobMetric.step,
            JobMetric.loss,
            number.label("number"),
            count.label("count"),
            ((number - 1) * stretches // count).label("stretch"),
        )
        .where(JobMetric.job_id == job_id)
        .subquery()
    )
    stretch, loss, step = numbered.c.stretch, numbered.c.loss, numbered.c.step
    least = func.row_number().over(partition_by=stretch, order_by=[loss, step])
    greatest = func.row_number().over(partition_by=stretch, order_by=[loss.desc(), step])
    ranked = select(numbered, least.label("least"), greatest.label("greatest")).subquery()
    shown = select(ranked.c.step).where(
        or_(
            ranked.c.count <= points,
            ranked.c.number.in_((1, ranked.c.count)),
            ranked.c.least == 1,
            ranked.c.greatest == 1,
        )
    )
    return (
        select(JobMetric)
        .where(JobMetric.job_id == job_id, JobMetric.step.in_(shown))
        .order_by(JobMetric.step)
    )
