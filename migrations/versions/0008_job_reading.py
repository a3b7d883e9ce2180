"""What a job's owner asks of jobs: metadata, filters, how fast and how long they run.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

LISTED = sa.text("deleted_at IS NULL")


def upgrade() -> None:
    metadata = postgresql.JSONB(astext_type=sa.Text())
    for column in (
        sa.Column("metadata", metadata, server_default="{}", nullable=False),
        sa.Column("progress_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("device_seconds", sa.Float(), server_default="0", nullable=False),
    ):
        op.add_column("jobs", column)
    # What earlier runs took is not known any more.
    op.execute("UPDATE jobs SET device_seconds = ran_seconds WHERE ran_seconds > 0")
    for name, what in (
        ("status", "status"),
        ("model", "(spec ->> 'model')"),
        ("method", "(spec ->> 'method')"),
    ):
        op.create_index(
            f"ix_jobs_{name}_id",
            "jobs",
            ["project_id", sa.text(what), sa.text("id DESC")],
            postgresql_where=LISTED,
        )
    op.create_index(
        "ix_jobs_metadata",
        "jobs",
        ["metadata"],
        postgresql_using="gin",
        postgresql_ops={"metadata": "jsonb_path_ops"},
        postgresql_where=LISTED,
    )
    op.create_index("ix_jobs_finished_at", "jobs", ["finished_at"], postgresql_where=LISTED)


def downgrade() -> None:
    for name in ("finished_at", "metadata", "method_id", "model_id", "status_id"):
        op.drop_index(f"ix_jobs_{name}", "jobs")
    for name in ("device_seconds", "progress_at", "metadata"):
        op.drop_column("jobs", name)
