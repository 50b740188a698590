"""Alembic's environment: runs on the connection that b2bua/store/migrate.py hands over, in its transaction."""

from __future__ import annotations

from alembic import context

from b2bua.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
