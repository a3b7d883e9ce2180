"""Answers that are kept byte for byte.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column(
        "idempotency_keys",
        "answer",
        type_=sa.JSON(none_as_null=True),
        postgresql_using="answer::json",
    )


def downgrade() -> None:
    op.alter_column(
        "idempotency_keys",
        "answer",
        type_=postgresql.JSONB(none_as_null=True),
        postgresql_using="answer::jsonb",
    )
