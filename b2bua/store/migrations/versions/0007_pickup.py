"""By which codes phones pick up what rings at colleagues', and what those see who watch them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("clients", sa.Column("pickup_code", sa.Text(), nullable=False, server_default="**"))
    op.add_column("clients", sa.Column("group_pickup_code", sa.Text(), nullable=False, server_default="*8"))
    op.add_column("clients", sa.Column("show_callers", sa.Boolean(), nullable=False, server_default=sa.false()))
