"""Finished calls are found by number, person, name and result; what a CRM was told says when, and on which card."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from b2bua.store.call_terms import TERM_COLUMNS, kind_of, term_rows
from b2bua.store.schema import Instant

revision = "0019"
down_revision = "0018"

AT_ONCE = 5_000                        # calls

_ASIDE = sa.text("state = 'aside'")

_COLUMNS = ("id", "client", "direction", "caller", "dialled", "started_at", "answered_at", "disposition", "extension",
            "rang", "crm_user", "contact", "recording")
_calls = sa.table("calls", *[sa.column(name, Instant() if name.endswith("_at") else None) for name in _COLUMNS],
                  sa.column("kind"))
_call_terms = sa.table("call_terms", *[sa.column(name) for name in TERM_COLUMNS])


def upgrade() -> None:
    op.add_column("outbox", sa.Column("ended_at", Instant))
    op.add_column("outbox", sa.Column("card", sa.Text))
    op.create_index("ix_outbox_aside", "outbox", ["client", "due_at", "id"],
                    sqlite_where=_ASIDE, postgresql_where=_ASIDE)
    op.add_column("calls", sa.Column("kind", sa.SmallInteger, nullable=False, server_default="0"))
    op.create_table(
        "call_terms",
        sa.Column("term", sa.Text, primary_key=True),
        sa.Column("client", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, primary_key=True),
        sa.Column("call", sa.Text, primary_key=True),
        sa.Column("kind", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("words", sa.Text, primary_key=True),
        sqlite_with_rowid=False,
    )
    _index_what_is_there(op.get_bind())
    op.create_index("ix_calls_kinds", "calls", ["kind", "started_at", "id"])
    op.create_index("ix_calls_kinds_of_client", "calls", ["client", "kind", "started_at", "id"])


def _index_what_is_there(connection: sa.Connection) -> None:
    """A minute or two for a million calls."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA cache_size=-65536")     # KiB: else each page is written many times over
    some = sa.select(*[_calls.c[name] for name in _COLUMNS]).where(_calls.c.id > sa.bindparam("last")).order_by(
        _calls.c.id).limit(AT_ONCE)
    of_kind = sa.update(_calls).where(_calls.c.id == sa.bindparam("of_call")).values(kind=sa.bindparam("is_kind"))
    last = ""
    while rows := connection.execute(some, {"last": last}).mappings().all():
        connection.execute(of_kind, [{"of_call": row["id"], "is_kind": kind_of(dict(row))} for row in rows])
        connection.execute(sa.insert(_call_terms), [dict(zip(TERM_COLUMNS, term, strict=True))
                                                    for row in rows for term in term_rows(dict(row))])
        last = rows[-1]["id"]
