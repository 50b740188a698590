"""Who has which number is read ahead of the CRM, and the CRM tells its changes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("crm_accounts", sa.Column("sync", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.add_column("crm_accounts", sa.Column("sync_minutes", sa.Integer(), nullable=False, server_default="5"))
    op.add_column("crm_accounts", sa.Column("sync_cards", sa.Integer(), nullable=False, server_default="100000"))
    op.add_column("crm_accounts", sa.Column("webhooks", sa.Boolean(), nullable=False, server_default=sa.true()))
