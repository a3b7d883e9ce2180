"""Uploaded datasets, and which one a job reads.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
LISTED = sa.text("state <> 'deleting'")


def upgrade() -> None:
    json = postgresql.JSONB(astext_type=sa.Text())
    op.create_table(
        "datasets",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="uploading", nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("gzip", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("charged_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("storage_key", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_until", TIME, nullable=True),
        sa.Column("profile", json, nullable=True),
        sa.Column("error", json, nullable=True),
        sa.Column("created_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("checked_at", TIME, nullable=True),
        sa.CheckConstraint(
            "state IN ('uploading', 'validating', 'ready', 'invalid', 'deleting')",
            name="state",
        ),
        sa.CheckConstraint("format IN ('csv', 'tsv', 'jsonl', 'parquet')", name="format"),
        sa.CheckConstraint(
            "state IN ('uploading', 'deleting') OR (sha256 IS NOT NULL AND size IS NOT NULL)",
            name="hashed",
        ),
        sa.CheckConstraint("state <> 'ready' OR profile IS NOT NULL", name="profiled"),
        sa.CheckConstraint("state <> 'invalid' OR error IS NOT NULL", name="refused"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_datasets_project_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
        sa.UniqueConstraint("project_id", "id", name=op.f("uq_datasets_project_id_id")),
        sa.UniqueConstraint("storage_key", name=op.f("uq_datasets_storage_key")),
    )
    op.create_index(
        "uq_datasets_content",
        "datasets",
        ["project_id", "name", "sha256", "format"],
        unique=True,
        postgresql_where=sa.text("state IN ('validating', 'ready', 'invalid')"),
    )
    op.create_index(
        "ix_datasets_name_id",
        "datasets",
        ["project_id", "name", sa.text("id DESC")],
        postgresql_where=LISTED,
    )
    op.create_index(
        "ix_datasets_charged", "datasets", ["project_id"], postgresql_include=["charged_bytes"]
    )
    op.create_index(
        "ix_datasets_in_work",
        "datasets",
        ["state", "id"],
        postgresql_where=sa.text("state IN ('uploading', 'validating', 'deleting')"),
    )
    _let_jobs_refer(json)


def _let_jobs_refer(json: postgresql.JSONB) -> None:
    op.add_column("jobs", sa.Column("dataset_id", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("data", json, nullable=True))
    op.create_foreign_key(
        op.f("fk_jobs_project_id_dataset_id"),
        "jobs",
        "datasets",
        ["project_id", "dataset_id"],
        ["project_id", "id"],
        ondelete="SET NULL (dataset_id)",
    )
    op.create_index(
        "ix_jobs_dataset_id",
        "jobs",
        ["project_id", "dataset_id"],
        postgresql_where=sa.text("dataset_id IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_dataset_id", "jobs")
    op.drop_constraint(op.f("fk_jobs_project_id_dataset_id"), "jobs")
    op.drop_column("jobs", "data")
    op.drop_column("jobs", "dataset_id")
    op.drop_table("datasets")
