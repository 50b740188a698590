"""What a client has switched on in its CRM, with its rules, as one value."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_SWITCHES = ("forward_to_responsible", "set_caller_name", "pop_up")


def upgrade() -> None:
    op.add_column("crm_accounts", sa.Column("functions", sa.Text(), nullable=False, server_default="{}"))
    connection = op.get_bind()
    accounts = sa.table("crm_accounts", sa.column("client"), sa.column("functions"),
                        *[sa.column(name, sa.Boolean()) for name in _SWITCHES])
    for row in connection.execute(sa.select(accounts)).mappings().all():
        functions = json.dumps({name: bool(row[name]) for name in _SWITCHES})
        connection.execute(accounts.update().where(accounts.c.client == row["client"]).values(functions=functions))
    for name in _SWITCHES:
        op.drop_column("crm_accounts", name)
