"""The CRM's users, and which extension its widget gives to whom."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0012"
down_revision = "0011"

INSTANT = sa.String(32).with_variant(TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    op.add_column("crm_accounts", sa.Column("widget", sa.Text(), nullable=False, server_default=""))
    op.add_column("crm_accounts", sa.Column("users_from", sa.String(16), nullable=False, server_default="file"))
    op.create_table(
        "crm_users",
        sa.Column("client", sa.Text(), sa.ForeignKey("clients.id", ondelete="CASCADE",
                                                     name="fk_crm_users_client_clients"), nullable=False),
        sa.Column("id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("is_active", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("seen_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("client", "id", name="pk_crm_users"),
    )
    op.create_table(
        "crm_user_map",
        sa.Column("client", sa.Text(), sa.ForeignKey("clients.id", ondelete="CASCADE",
                                                     name="fk_crm_user_map_client_clients"), nullable=False),
        sa.Column("user", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("extension", sa.Text(), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("client", "user", name="pk_crm_user_map"),
    )
