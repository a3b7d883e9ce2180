"""Scopes, ends and uses of API keys.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=True))
    # All that keys could do before.
    op.execute("UPDATE api_keys SET scopes = '{datasets:write,jobs:read,jobs:write}'")
    op.alter_column("api_keys", "scopes", nullable=False)
    op.create_check_constraint(
        op.f("ck_api_keys_scopes"),
        "api_keys",
        "scopes <@ ARRAY['jobs:read', 'jobs:write', 'datasets:write', 'admin']::text[]"
        " AND scopes <> '{}'",
    )
    for name in ("expires_at", "rotated_at", "revoked_at", "last_used_at"):
        op.add_column("api_keys", sa.Column(name, sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.execute("DELETE FROM api_keys WHERE revoked_at IS NOT NULL OR expires_at IS NOT NULL")
    op.drop_constraint(op.f("ck_api_keys_scopes"), "api_keys")
    for name in ("scopes", "expires_at", "rotated_at", "revoked_at", "last_used_at"):
        op.drop_column("api_keys", name)
