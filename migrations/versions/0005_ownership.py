"""What belongs to a job names the job's project, and refers to both.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

JOBS = sa.table("jobs", sa.column("project_id"), sa.column("id"))
TABLES = ("artifacts", "job_events", "job_metrics")


def upgrade() -> None:
    op.create_unique_constraint(op.f("uq_jobs_project_id_id"), "jobs", ["project_id", "id"])
    op.drop_index("ix_jobs_project_id_id", "jobs")
    for table in TABLES:
        op.add_column(table, sa.Column("project_id", sa.Text(), nullable=True))
        owned = sa.table(table, sa.column("project_id"), sa.column("job_id"))
        of_its_job = sa.update(owned).where(JOBS.c.id == owned.c.job_id)
        op.execute(of_its_job.values(project_id=JOBS.c.project_id))
        op.alter_column(table, "project_id", nullable=False)
        op.drop_constraint(op.f(f"fk_{table}_job_id"), table)
        op.create_foreign_key(
            op.f(f"fk_{table}_project_id_job_id"),
            table,
            "jobs",
            ["project_id", "job_id"],
            ["project_id", "id"],
        )


def downgrade() -> None:
    for table in TABLES:
        op.drop_constraint(op.f(f"fk_{table}_project_id_job_id"), table)
        op.create_foreign_key(op.f(f"fk_{table}_job_id"), table, "jobs", ["job_id"], ["id"])
        op.drop_column(table, "project_id")
    op.create_index("ix_jobs_project_id_id", "jobs", ["project_id", sa.literal_column("id DESC")])
    op.drop_constraint(op.f("uq_jobs_project_id_id"), "jobs")
