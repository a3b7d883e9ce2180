"""Quotas of single projects, and indexes to count by.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("projects", sa.Column("max_queued_jobs", sa.Integer(), nullable=True))
    op.add_column("projects", sa.Column("max_running_jobs", sa.Integer(), nullable=True))
    op.add_column("projects", sa.Column("max_stored_bytes", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_jobs_waiting_by_project",
        "jobs",
        ["project_id"],
        postgresql_where=sa.text("status IN ('queued', 'paused')"),
    )
    op.create_index(
        "ix_artifacts_stored_by_project",
        "artifacts",
        ["project_id"],
        postgresql_include=["size"],
    )


def downgrade() -> None:
    op.drop_index("ix_artifacts_stored_by_project", "artifacts")
    op.drop_index("ix_jobs_waiting_by_project", "jobs")
    for name in ("max_queued_jobs", "max_running_jobs", "max_stored_bytes"):
        op.drop_column("projects", name)
