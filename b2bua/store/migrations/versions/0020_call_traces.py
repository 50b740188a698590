"""What was said in each call, for some days."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from b2bua.store.schema import Instant

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.create_table(
        "call_traces",
        sa.Column("call", sa.Text, primary_key=True),
        sa.Column("client", sa.Text, nullable=False),
        sa.Column("started_at", Instant, nullable=False),
        sa.Column("steps", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_call_traces_started_at", "call_traces", ["started_at"])
