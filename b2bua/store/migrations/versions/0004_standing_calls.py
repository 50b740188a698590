"""Calls that are up, as the next start of a daemon that died must find them, and when it was last alive."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0004"
down_revision = "0003"

INSTANT = sa.String(32).with_variant(TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    op.create_table("standing_calls",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("seen_at", INSTANT),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_standing_calls")
    )
    op.create_table("heartbeat",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seen_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_heartbeat")
    )
    op.execute("INSERT INTO heartbeat (id, seen_at) VALUES (1, '1970-01-01T00:00:00.000000+00:00')")
