"""${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


# Upgrades only: a way back that drops what users wrote would be no way back; restore a backup.


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}

