"""Sweeps, jobs that wait for the one that is their yardstick, and the pick of a sweep.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
JSONB = postgresql.JSONB(astext_type=sa.Text(), none_as_null=True)


def upgrade() -> None:
    op.create_table(
        "sweeps",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("request", JSONB, nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("metadata", JSONB, server_default="{}", nullable=False),
        sa.Column("max_parallel", sa.SmallInteger(), nullable=True),
        sa.Column("created_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("deleted_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sweeps")),
        sa.UniqueConstraint("project_id", "id", name=op.f("uq_sweeps_project_id_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_sweeps_project_id")),
        sa.CheckConstraint("max_parallel > 0", name=op.f("ck_sweeps_max_parallel")),
    )
    for column, table in (("sweep_id", "sweeps"), ("waits_for", "jobs")):
        op.add_column("jobs", sa.Column(column, sa.Text(), nullable=True))
        op.create_foreign_key(
            op.f(f"fk_jobs_project_id_{column}"),
            "jobs",
            table,
            ["project_id", column],
            ["project_id", "id"],
        )
    for name, columns in (("sweep_id", ["sweep_id", "id"]), ("waits_for", ["waits_for"])):
        where = sa.text(f"{name} IS NOT NULL")
        op.create_index(f"ix_jobs_{name}", "jobs", columns, postgresql_where=where)
    _picks()


def _picks() -> None:
    op.create_table(
        "sweep_picks",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("sweep_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("constraints", JSONB, nullable=True),
        sa.Column("picked_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("sweep_id", name=op.f("pk_sweep_picks")),
        sa.ForeignKeyConstraint(
            ["project_id", "sweep_id"],
            ["sweeps.project_id", "sweeps.id"],
            name=op.f("fk_sweep_picks_project_id_sweep_id"),
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "job_id"],
            ["jobs.project_id", "jobs.id"],
            name=op.f("fk_sweep_picks_project_id_job_id"),
        ),
    )
    op.create_index("ix_sweep_picks_job_id", "sweep_picks", ["job_id"])


def downgrade() -> None:
    op.drop_table("sweep_picks")
    for name in ("waits_for", "sweep_id"):
        op.drop_index(f"ix_jobs_{name}", "jobs")
        op.drop_constraint(op.f(f"fk_jobs_project_id_{name}"), "jobs")
        op.drop_column("jobs", name)
    op.drop_table("sweeps")
