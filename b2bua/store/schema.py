"""The tables, for SQLite and PostgreSQL alike; migrations/ brings a database to them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

metadata = MetaData(naming_convention={
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
})


def instant_text(at: datetime) -> str:
    """How SQLite holds an instant: UTC, ISO 8601, of one length, so that text order is time order."""
    return (at if at.tzinfo is UTC else at.astimezone(UTC)).isoformat(timespec="microseconds")


class Instant(TypeDecorator[datetime]):
    """An aware UTC datetime: timestamptz in PostgreSQL, ISO text in SQLite, which has no such type."""

    impl = String(32)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(TIMESTAMP(timezone=True) if dialect.name == "postgresql" else String(32))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        return instant_text(value) if value is not None and dialect.name != "postgresql" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return datetime.fromisoformat(value) if isinstance(value, str) else value


# SQLite counts rows by itself only for INTEGER PRIMARY KEY, which is as wide as BIGINT there.
RowId = BigInteger().with_variant(Integer(), "sqlite")

calls = Table(
    "calls", metadata,
    Column("id", Text, primary_key=True),
    Column("client", Text, nullable=False),
    Column("direction", String(16), nullable=False),
    Column("caller", Text, nullable=False),
    Column("dialled", Text, nullable=False),
    Column("trunk", Text),
    Column("started_at", Instant, nullable=False),
    Column("rang_at", Instant),
    Column("answered_at", Instant),
    Column("ended_at", Instant, nullable=False),
    Column("disposition", String(16), nullable=False),
    Column("ended_by", String(16), nullable=False),
    Column("reason", String(32), nullable=False),
    Column("status", Integer, nullable=False),
    Column("extension", Text),
    Column("rang", Text, nullable=False),                  # JSON list
    Column("crm_user", BigInteger),
    Column("contact", Text),
    Column("recording", Text),
    Column("why", Text, nullable=False),                   # JSON list
    Column("cause", Integer),
    Column("kind", SmallInteger, nullable=False, server_default="0"),      # see call_terms.py
    Index(None, "started_at"),
    Index(None, "client", "started_at"),
    Index("ix_calls_kinds", "kind", "started_at", "id"),
    Index("ix_calls_kinds_of_client", "client", "kind", "started_at", "id"),
)

# By what words calls are found: see call_terms.py.
call_terms = Table(
    "call_terms", metadata,
    Column("term", Text, primary_key=True),
    Column("client", Text, primary_key=True),
    Column("at", BigInteger, primary_key=True),            # started_at, in microseconds since 1970
    Column("call", Text, primary_key=True),
    # Of the key, too, so that PostgreSQL finds all in its index.
    Column("kind", SmallInteger, primary_key=True, autoincrement=False),
    Column("words", Text, primary_key=True),               # the whole number, backwards, or name: " " around each word
    sqlite_with_rowid=False,
)

_PENDING = text("state = 'pending'")
_ASIDE = text("state = 'aside'")

outbox = Table(
    "outbox", metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("client", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("state", String(16), nullable=False),           # pending, done, aside, dropped
    Column("due_at", Instant, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("outcome", Text),                               # what came of it, or the last error
    Column("ended_at", Instant),                           # when it was done, set aside or dropped
    Column("card", Text),                                  # on which it was done in the CRM, "contacts/9001"
    UniqueConstraint("client", "key"),
    # Only what is pending is looked for, and it is few among the many that are done.
    Index("ix_outbox_lanes", "client", "lane", "id", sqlite_where=_PENDING, postgresql_where=_PENDING),
    Index("ix_outbox_due", "client", "due_at", "id", sqlite_where=_PENDING, postgresql_where=_PENDING),
    Index("ix_outbox_aside", "client", "due_at", "id", sqlite_where=_ASIDE, postgresql_where=_ASIDE),
)

# What we have made in a client's CRM for one outside number, as its search knows it only after a while.
crm_made = Table(
    "crm_made", metadata,
    Column("client", Text, primary_key=True),
    Column("lane", Text, primary_key=True),                # the outside number's digits
    Column("kind", String(16), primary_key=True),          # contact, unsorted, deal, note, task
    Column("id", Text, primary_key=True),                  # the CRM's
    Column("call", Text, nullable=False),
    Column("on", Text, nullable=False),                    # the card that it hangs on
    Column("is_open", Boolean(create_constraint=False), nullable=False),
    Column("at", Instant, nullable=False),                 # when it was remembered
    Index("ix_crm_made_newest", "client", "lane", "is_open", "at"),
    Index("ix_crm_made_at", "at"),
)

# Calls that are up. A row goes when the call's record is in `calls`; what a dead daemon has left is closed by the next.
standing_calls = Table(
    "standing_calls", metadata,
    Column("id", Text, primary_key=True),
    Column("seen_at", Instant),                            # when a dead daemon was last alive; null: the call is ours
    Column("payload", Text, nullable=False),               # JSON: its record, CRM writes, and BYEs, should it end now
)

# What was said in each call, for some days: see b2bua.calls.ladder. No foreign key: the call's record may come later.
call_traces = Table(
    "call_traces", metadata,
    Column("call", Text, primary_key=True),
    Column("client", Text, nullable=False),
    Column("started_at", Instant, nullable=False),         # of the call
    Column("steps", LargeBinary, nullable=False),          # compressed JSON
    Index(None, "started_at"),
)

# One row: when the daemon was last known to be alive with calls up.
heartbeat = Table(
    "heartbeat", metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seen_at", Instant, nullable=False),
)

recordings = Table(
    "recordings", metadata,
    Column("id", Text, primary_key=True),
    Column("call", Text, nullable=False),
    Column("client", Text, nullable=False),
    Column("path", Text, nullable=False),                  # below the recordings' directory
    Column("started_at", Instant, nullable=False),
    Column("state", String(16), nullable=False),           # recording, ready, failed
    Column("seconds", Float, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("problem", Text),
    Column("revoked", Boolean(create_constraint=False), nullable=False),
    Column("decided_at", Instant),                         # when that was last decided by somebody
    Column("decided_by", Text),
    Index(None, "call"),
    Index(None, "state"),
    Index(None, "started_at"),
)

recording_fetches = Table(
    "recording_fetches", metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("recording", Text, nullable=False),
    Column("at", Instant, nullable=False),                 # of the first of the requests
    Column("address", Text, nullable=False),
    Column("who", Text, nullable=False),                   # who had signed in; "": nobody
    Column("requests", Integer, nullable=False),
    Column("size", BigInteger, nullable=False),            # bytes of the answers
    Index("ix_recording_fetches_last", "recording", "id"),
    Index(None, "at"),
)

bindings = Table(
    "bindings", metadata,
    Column("client", Text, primary_key=True),
    Column("extension", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("expires_at", Instant, nullable=False),
    Column("payload", Text, nullable=False),               # the registrar's own JSON
)

# One row: counts the changes of the tables below, so that a running daemon learns of them.
directory_generation = Table(
    "directory_generation", metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("generation", BigInteger, nullable=False),
)

# What became of the tables below, who has done it, and when. No foreign key: it outlives what it tells of.
changes = Table(
    "changes", metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("at", Instant, nullable=False),
    Column("client", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("generation", BigInteger, nullable=False),      # of the directory, after it
    Column("sign", String(1), nullable=False),             # + ~ -
    Column("what", Text, nullable=False),
    Column("fields", Text, nullable=False),                # JSON: name, before, after; secrets are only named
    Index("ix_changes_client", "client", "id"),
    Index(None, "at"),
)

clients = Table(
    "clients", metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("max_calls", Integer, nullable=False),
    Column("record", Boolean(create_constraint=False), nullable=False),
    Column("country", String(2), nullable=False),
    Column("caller_id", Text, nullable=False),
    Column("forward_outside", Boolean(create_constraint=False), nullable=False),
    Column("outgoing_per_hour", Integer, nullable=False),
    Column("limits", Text, nullable=False),                # JSON list
    Column("music_on_hold", Text, nullable=False),
    Column("pickup_code", Text, nullable=False),
    Column("group_pickup_code", Text, nullable=False),
    Column("show_callers", Boolean(create_constraint=False), nullable=False),
    Column("click2call_answer_after", Integer),
    Column("login", Text, nullable=False),                 # of its own administrator, in the widget
    Column("password_hash", Text, nullable=False),         # argon2id; "": no password opens it
)

crm_accounts = Table(
    "crm_accounts", metadata,
    Column("client", Text, ForeignKey("clients.id", ondelete="CASCADE"), primary_key=True),
    Column("base_url", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("functions", Text, nullable=False),             # JSON: what is switched on, and its rules
    Column("patience", Float, nullable=False),
    Column("responsible_ring_seconds", Integer, nullable=False),
    Column("default_user", BigInteger),
    Column("sync", Boolean(create_constraint=False), nullable=False),
    Column("sync_minutes", Integer, nullable=False),
    Column("sync_cards", Integer, nullable=False),
    Column("webhooks", Boolean(create_constraint=False), nullable=False),
    Column("client_id", Text, nullable=False),             # of an OAuth integration; "": a long-lived token
    Column("client_secret", Text, nullable=False),         # sealed, as `token` is
    Column("redirect_uri", Text, nullable=False),
    Column("widget", Text, nullable=False),
    Column("users_from", String(16), nullable=False),      # file, widget
    Column("account", BigInteger),                         # id in the CRM of the account whose widget was connected
)

# How the accounts above are entered by OAuth. Apart from them, as nothing that changes settings, and no error, may take
# tokens away; for the same reason no foreign key: a client that goes and comes again is still connected.
crm_connections = Table(
    "crm_connections", metadata,
    Column("client", Text, primary_key=True),
    Column("client_id", Text, nullable=False),             # the integration whose tokens these are
    Column("applied_url", Text, nullable=False),           # base_url of the settings when they came
    Column("base_url", Text, nullable=False),              # where the account is now
    Column("account", BigInteger),                         # its id in the CRM
    Column("api_domain", Text),                            # who knows where it has moved to
    Column("access_token", Text, nullable=False),          # sealed
    Column("refresh_token", Text, nullable=False),         # sealed
    Column("obtained_at", Instant, nullable=False),
    Column("access_until", Instant, nullable=False),
    Column("refresh_until", Instant, nullable=False),
    Column("generation", BigInteger, nullable=False),      # grows with each pair of tokens
    Column("sent", Integer, nullable=False),               # times that this refresh token went out, answer unknown
    Column("state", String(16), nullable=False),           # connected, uncertain, refused, disconnected
    Column("since", Instant, nullable=False),              # of the state
    Column("problem", Text, nullable=False),               # why it is not connected
    Column("lease", Text, nullable=False),                 # who refreshes now; "": nobody
)

# What a client's CRM has told of its users. Another account has other users: see directory.py.
crm_users = Table(
    "crm_users", metadata,
    Column("client", Text, ForeignKey("clients.id", ondelete="CASCADE"), primary_key=True),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("is_active", Boolean(create_constraint=False), nullable=False),
    Column("seen_at", Instant, nullable=False),            # since when it is known so
)

crm_user_map = Table(
    "crm_user_map", metadata,
    Column("client", Text, ForeignKey("clients.id", ondelete="CASCADE"), primary_key=True),
    Column("user", BigInteger, primary_key=True, autoincrement=False),
    Column("extension", Text, nullable=False),             # as it was typed: there may be none such
    Column("source", String(16), nullable=False),          # widget, settings
    Column("at", Instant, nullable=False),
)

extensions = Table(
    "extensions", metadata,
    Column("client", Text, ForeignKey("clients.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Text, primary_key=True),
    Column("login", Text, nullable=False, unique=True),
    Column("ha1", Text, nullable=False),                   # JSON: algorithm -> H(login:realm:password)
    Column("name", Text, nullable=False),
    Column("crm_user", BigInteger),
    Column("address", Text),
    Column("ascii_only", Boolean(create_constraint=False), nullable=False),
    Column("max_contacts", Integer, nullable=False),
    Column("caller_id", Text, nullable=False),
    Column("hide_caller_id", Boolean(create_constraint=False), nullable=False),
    Column("ring_seconds", Integer, nullable=False),
    Column("forward_always", Text),
    Column("on_no_answer", Text),
    Column("on_busy", Text),
    Column("on_unregistered", Text),
    Column("max_calls", Integer, nullable=False),
    Column("outgoing_per_hour", Integer, nullable=False),
)

trunks = Table(
    "trunks", metadata,
    Column("client", Text, ForeignKey("clients.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("port", Integer),
    Column("transport", String(8), nullable=False),
    Column("networks", Text, nullable=False),              # JSON list
    Column("register", Boolean(create_constraint=False), nullable=False),
    Column("user", Text, nullable=False),
    Column("password", Text, nullable=False),
    Column("domain", Text, nullable=False),
    Column("caller_id", Text, nullable=False),
    Column("country", String(2), nullable=False),
    Column("max_calls", Integer, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("weight", Integer, nullable=False),
    Column("prefixes", Text, nullable=False),              # JSON list
    Column("profile", Text, nullable=False),
    Column("number_format", Text),                         # of these, NULL means as the profile has it
    Column("caller_format", Text),
    Column("identity", Text),
    Column("from_shows", Text),
    Column("trusts", Text),                                # JSON list
    Column("ca_file", Text, nullable=False, server_default=""),            # paths on the server
    Column("certificate", Text, nullable=False, server_default=""),
    Column("certificate_key", Text, nullable=False, server_default=""),
)

groups = Table(
    "groups", metadata,
    Column("client", Text, ForeignKey("clients.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Text, primary_key=True),
    Column("members", Text, nullable=False),               # JSON list
    Column("name", Text, nullable=False),
    Column("strategy", Text, nullable=False),
    Column("member_seconds", Integer, nullable=False),
    Column("ring_seconds", Integer, nullable=False),
    Column("on_no_answer", Text),
    Column("on_busy", Text),
    Column("on_unregistered", Text),
)

numbers = Table(
    "numbers", metadata,
    Column("client", Text, ForeignKey("clients.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Text, primary_key=True),
    Column("destination", Text, nullable=False),
    Column("trunk", Text),
    Column("ring_seconds", Integer, nullable=False),
    Column("on_no_answer", Text),
    Column("on_busy", Text),
    Column("on_unregistered", Text),
    Column("hours", Text),                                 # JSON; NULL: always open
    ForeignKeyConstraint(["client", "trunk"], ["trunks.client", "trunks.name"]),
)

web_sessions = Table(
    "web_sessions", metadata,
    Column("id", Text, primary_key=True),
    Column("client", Text),                                # NULL: the platform operator's
    Column("opened_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("address", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("ended", Boolean(create_constraint=False), nullable=False),
    Index(None, "expires_at"),
)
