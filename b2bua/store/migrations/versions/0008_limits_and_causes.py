"""Limits of outgoing calls against toll fraud; the Q.850 cause of a call's end."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("clients", sa.Column("outgoing_per_hour", sa.Integer(), nullable=False, server_default="600"))
    op.add_column("clients", sa.Column("limits", sa.Text(), nullable=False, server_default="[]"))
    op.add_column("extensions", sa.Column("max_calls", sa.Integer(), nullable=False, server_default="10"))
    op.add_column("extensions", sa.Column("outgoing_per_hour", sa.Integer(), nullable=False, server_default="60"))
    op.add_column("calls", sa.Column("cause", sa.Integer()))
