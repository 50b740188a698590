"""What we have made in the CRMs, by outside number; and an index that finds what is due without counting the rest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from b2bua.store.schema import Instant

revision = "0013"
down_revision = "0012"

_PENDING = sa.text("state = 'pending'")


def upgrade() -> None:
    op.create_table(
        "crm_made",
        sa.Column("client", sa.Text, primary_key=True),
        sa.Column("lane", sa.Text, primary_key=True),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("call", sa.Text, nullable=False),
        sa.Column("on", sa.Text, nullable=False),
        sa.Column("is_open", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("at", Instant, nullable=False),
    )
    op.create_index("ix_crm_made_newest", "crm_made", ["client", "lane", "is_open", "at"])
    op.create_index("ix_crm_made_at", "crm_made", ["at"])
    op.create_index("ix_outbox_due", "outbox", ["client", "due_at", "id"],
                    sqlite_where=_PENDING, postgresql_where=_PENDING)
