"""Whether the phone of who clicked a number answers by itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.add_column("clients", sa.Column("click2call_answer_after", sa.Integer()))
