"""The tables of the first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0001"
down_revision = None

INSTANT = sa.String(32).with_variant(TIMESTAMP(timezone=True), "postgresql")
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
PENDING = sa.text("state = 'pending'")


def upgrade() -> None:
    op.create_table("bindings",
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("extension", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("client", "extension", "key", name="pk_bindings")
    )
    op.create_table("calls",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("direction", sa.String(length=16), nullable=False),
        sa.Column("caller", sa.Text(), nullable=False),
        sa.Column("dialled", sa.Text(), nullable=False),
        sa.Column("trunk", sa.Text()),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("rang_at", INSTANT),
        sa.Column("answered_at", INSTANT),
        sa.Column("ended_at", INSTANT, nullable=False),
        sa.Column("disposition", sa.String(length=16), nullable=False),
        sa.Column("ended_by", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("extension", sa.Text()),
        sa.Column("rang", sa.Text(), nullable=False),
        sa.Column("crm_user", sa.BigInteger()),
        sa.Column("contact", sa.Text()),
        sa.Column("recording", sa.Text()),
        sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_calls")
    )
    op.create_index("ix_calls_client_started_at", "calls", ["client", "started_at"])
    op.create_index("ix_calls_started_at", "calls", ["started_at"])
    op.create_table("clients",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("max_calls", sa.Integer(), nullable=False),
        sa.Column("record", sa.Boolean(), nullable=False),
        sa.Column("country", sa.String(length=2), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_clients")
    )
    op.create_table("directory_generation",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_directory_generation")
    )
    op.create_table("outbox",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("due_at", INSTANT, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("outcome", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.UniqueConstraint("client", "key", name="uq_outbox_client_key")
    )
    op.create_index("ix_outbox_lanes", "outbox", ["client", "lane", "id"],
                    sqlite_where=PENDING, postgresql_where=PENDING)
    op.create_table("recordings",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("call", sa.Text(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("problem", sa.Text()),
        sa.Column("revoked", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_recordings")
    )
    op.create_index("ix_recordings_call", "recordings", ["call"])
    op.create_index("ix_recordings_started_at", "recordings", ["started_at"])
    op.create_index("ix_recordings_state", "recordings", ["state"])
    op.create_table("crm_accounts",
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("base_url", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("forward_to_responsible", sa.Boolean(), nullable=False),
        sa.Column("set_caller_name", sa.Boolean(), nullable=False),
        sa.Column("pop_up", sa.Boolean(), nullable=False),
        sa.Column("patience", sa.Float(), nullable=False),
        sa.Column("responsible_ring_seconds", sa.Integer(), nullable=False),
        sa.Column("default_user", sa.BigInteger()),
        sa.ForeignKeyConstraint(["client"], ["clients.id"], name="fk_crm_accounts_client", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("client", name="pk_crm_accounts")
    )
    op.create_table("extensions",
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("ha1", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("crm_user", sa.BigInteger()),
        sa.Column("address", sa.Text()),
        sa.Column("ascii_only", sa.Boolean(), nullable=False),
        sa.Column("max_contacts", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["client"], ["clients.id"], name="fk_extensions_client", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("client", "number", name="pk_extensions"),
        sa.UniqueConstraint("login", name="uq_extensions_login")
    )
    op.create_table("groups",
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("members", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["client"], ["clients.id"], name="fk_groups_client", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("client", "number", name="pk_groups")
    )
    op.create_table("trunks",
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("port", sa.Integer()),
        sa.Column("transport", sa.String(length=8), nullable=False),
        sa.Column("networks", sa.Text(), nullable=False),
        sa.Column("register", sa.Boolean(), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("caller_id", sa.Text(), nullable=False),
        sa.Column("country", sa.String(length=2), nullable=False),
        sa.Column("max_calls", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["client"], ["clients.id"], name="fk_trunks_client", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("client", "name", name="pk_trunks")
    )
    op.create_table("numbers",
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("trunk", sa.Text()),
        sa.Column("ring_seconds", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["client", "trunk"], ["trunks.client", "trunks.name"], name="fk_numbers_client_trunk"),
        sa.ForeignKeyConstraint(["client"], ["clients.id"], name="fk_numbers_client", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("client", "number", name="pk_numbers")
    )
    op.execute("INSERT INTO directory_generation (id, generation) VALUES (1, 0)")
