"""Choice among trunks, their profiles, and caller ids of clients and extensions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("clients", sa.Column("caller_id", sa.Text(), nullable=False, server_default=""))
    op.add_column("extensions", sa.Column("caller_id", sa.Text(), nullable=False, server_default=""))
    op.add_column("extensions", sa.Column("hide_caller_id", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("trunks", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("trunks", sa.Column("weight", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("trunks", sa.Column("prefixes", sa.Text(), nullable=False, server_default="[]"))
    op.add_column("trunks", sa.Column("profile", sa.Text(), nullable=False, server_default="generic"))
    for name in ("number_format", "caller_format", "identity", "from_shows", "trusts"):
        op.add_column("trunks", sa.Column(name, sa.Text()))
