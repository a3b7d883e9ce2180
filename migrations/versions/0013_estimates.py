"""Estimates of what jobs take.

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "estimates",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("attempt", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("spec", postgresql.JSONB(), nullable=False),
        sa.Column("spec_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("forecast", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("error", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("measured", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('waiting', 'running', 'ready', 'failed')",
            name=op.f("ck_estimates_status"),
        ),
        sa.CheckConstraint(
            "(status = 'running') = (lease_until IS NOT NULL)", name=op.f("ck_estimates_lease")
        ),
        sa.CheckConstraint(
            "(status = 'ready') = (forecast IS NOT NULL)", name=op.f("ck_estimates_forecast")
        ),
        sa.CheckConstraint(
            "(job_id IS NULL) = (measured IS NULL)", name=op.f("ck_estimates_measured")
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_estimates_project_id")
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "job_id"],
            ["jobs.project_id", "jobs.id"],
            name=op.f("fk_estimates_project_id_job_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_estimates")),
        sa.UniqueConstraint("job_id", name=op.f("uq_estimates_job_id")),
    )
    op.create_index(
        "ix_estimates_undone",
        "estimates",
        ["id"],
        postgresql_where=sa.text("status IN ('waiting', 'running')"),
    )
    op.create_index(
        "ix_estimates_project_id_spec_sha256", "estimates", ["project_id", "spec_sha256"]
    )
    op.create_index(
        "ix_estimates_of_jobs",
        "estimates",
        ["project_id", "job_id"],
        postgresql_where=sa.text("job_id IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_table("estimates")
