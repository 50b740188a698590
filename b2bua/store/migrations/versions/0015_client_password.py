"""The client's own login and password, for its widget, and the account that its widget is connected to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("clients", sa.Column("login", sa.Text(), nullable=False, server_default=""))
    op.add_column("clients", sa.Column("password_hash", sa.Text(), nullable=False, server_default=""))
    op.execute("UPDATE clients SET login = id")
    op.add_column("crm_accounts", sa.Column("account", sa.BigInteger(), nullable=True))
