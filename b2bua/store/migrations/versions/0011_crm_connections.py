"""CRM accounts may be entered by OAuth: the integration, and apart from it the connection with its tokens."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0011"
down_revision = "0010"

INSTANT = sa.String(32).with_variant(TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    for name in ("client_id", "client_secret", "redirect_uri"):
        op.add_column("crm_accounts", sa.Column(name, sa.Text(), nullable=False, server_default=""))
    op.create_table(
        "crm_connections",
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("applied_url", sa.Text(), nullable=False),
        sa.Column("base_url", sa.Text(), nullable=False),
        sa.Column("account", sa.BigInteger()),
        sa.Column("api_domain", sa.Text()),
        sa.Column("access_token", sa.Text(), nullable=False),
        sa.Column("refresh_token", sa.Text(), nullable=False),
        sa.Column("obtained_at", INSTANT, nullable=False),
        sa.Column("access_until", INSTANT, nullable=False),
        sa.Column("refresh_until", INSTANT, nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("sent", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("since", INSTANT, nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("lease", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("client", name="pk_crm_connections"),
    )
