"""In what order the members of a group ring, and where a call goes on that nobody took, and opening hours."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("groups", sa.Column("strategy", sa.Text(), nullable=False, server_default="together"))
    op.add_column("groups", sa.Column("member_seconds", sa.Integer(), nullable=False, server_default="15"))
    for table in ("extensions", "groups"):
        op.add_column(table, sa.Column("ring_seconds", sa.Integer(), nullable=False, server_default="30"))
    for table in ("extensions", "groups", "numbers"):
        for name in ("on_no_answer", "on_busy", "on_unregistered"):
            op.add_column(table, sa.Column(name, sa.Text()))
    op.add_column("extensions", sa.Column("forward_always", sa.Text()))
    op.add_column("clients", sa.Column("forward_outside", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("numbers", sa.Column("hours", sa.Text()))
