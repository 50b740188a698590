"""Trunks by TLS: who vouches for the operator, and what we show there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

COLUMNS = ("ca_file", "certificate", "certificate_key")


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column("trunks", sa.Column(name, sa.Text(), nullable=False, server_default=""))
