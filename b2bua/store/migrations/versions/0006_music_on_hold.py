"""What who is put on hold hears."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("clients", sa.Column("music_on_hold", sa.Text(), nullable=False, server_default=""))
