"""Who fetched which recording, and who withdrew one or gave it back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from b2bua.store.schema import Instant, RowId

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.add_column("recordings", sa.Column("decided_at", Instant, nullable=True))
    op.add_column("recordings", sa.Column("decided_by", sa.Text(), nullable=True))
    op.create_table(
        "recording_fetches",
        sa.Column("id", RowId, primary_key=True, autoincrement=True),
        sa.Column("recording", sa.Text, nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("requests", sa.Integer, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_recording_fetches_last", "recording_fetches", ["recording", "id"])
    op.create_index("ix_recording_fetches_at", "recording_fetches", ["at"])
