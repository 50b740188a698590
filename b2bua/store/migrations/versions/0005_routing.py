"""In what order the members of a group ring."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("groups", sa.Column("strategy", sa.Text(), nullable=False, server_default="together"))
    op.add_column("groups", sa.Column("member_seconds", sa.Integer(), nullable=False, server_default="15"))
