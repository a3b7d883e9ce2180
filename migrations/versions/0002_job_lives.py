"""Paused, retried and deleted jobs; snapshots and logs beside checkpoints.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    for column in (
        sa.Column("device", sa.Text(), server_default="any", nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("run", sa.Integer(), server_default="1", nullable=False),
        sa.Column("failed_attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("pause_requested", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("claimed_at", TIME, nullable=True),
        sa.Column("ran_seconds", sa.Float(), server_default="0", nullable=False),
        sa.Column("deleted_at", TIME, nullable=True),
    ):
        op.add_column("jobs", column)
    op.execute("UPDATE jobs SET claimed_at = now() WHERE status = 'running'")
    op.drop_constraint(op.f("ck_jobs_status"), "jobs")
    for name, condition in (
        (
            "status",
            "status IN ('queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled')",
        ),
        ("claim", "(status = 'running') = (claimed_at IS NOT NULL)"),
        (
            "finished",
            "(status IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)",
        ),
        ("device", "device IN ('any', 'cpu', 'gpu')"),
    ):
        op.create_check_constraint(op.f(f"ck_jobs_{name}"), "jobs", condition)
    op.create_index(
        "ix_jobs_deleted_at",
        "jobs",
        ["deleted_at"],
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    _artifacts()


def _artifacts() -> None:
    op.add_column("artifacts", sa.Column("kind", sa.Text(), nullable=True))
    op.add_column("artifacts", sa.Column("step", sa.Integer(), nullable=True))
    op.execute("UPDATE artifacts SET kind = 'checkpoint'")
    op.alter_column("artifacts", "kind", nullable=False)
    op.alter_column("artifacts", "format", nullable=True)
    op.drop_constraint(op.f("uq_artifacts_job_id_attempt_format"), "artifacts")
    op.create_unique_constraint(
        op.f("uq_artifacts_job_id_attempt_name"), "artifacts", ["job_id", "attempt", "name"]
    )
    op.drop_constraint(op.f("ck_artifacts_state"), "artifacts")
    op.drop_constraint(op.f("ck_artifacts_hashed"), "artifacts")
    for name, condition in (
        ("state", "state IN ('uploading', 'ready', 'deleting')"),
        ("kind", "kind IN ('checkpoint', 'snapshot', 'log')"),
        ("hashed", "state <> 'ready' OR sha256 IS NOT NULL"),
        ("format", "(kind = 'checkpoint') = (format IS NOT NULL)"),
        ("step", "(kind = 'snapshot') = (step IS NOT NULL)"),
    ):
        op.create_check_constraint(op.f(f"ck_artifacts_{name}"), "artifacts", condition)
    op.create_index(
        "ix_artifacts_unready",
        "artifacts",
        ["state"],
        postgresql_where=sa.text("state <> 'ready'"),
    )


def downgrade() -> None:
    raise NotImplementedError("paused jobs and snapshots have no place in the older schema")
