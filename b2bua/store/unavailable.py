"""When the database is away, whatever the driver calls it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

# What the database may say when it is not there, busy or restarting: try again. Anything else is a fault of the data
# or of ours. asyncpg and aiosqlite also raise plain OSError, and asyncio.TimeoutError, when connecting.
_PASSING = (OperationalError, InterfaceError, PoolTimeout, OSError, TimeoutError)
_PASSING_STATES = ("08", "40", "53", "55", "57", "58")     # SQLSTATE classes: connection, rollback, resources...



class StoreUnavailable(Exception):
    """The database cannot be reached or does not answer; again later."""


@contextmanager
def translated() -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        if _is_passing(error):
            raise StoreUnavailable(one_line(error)) from error
        raise


def _is_passing(error: BaseException) -> bool:
    """Whether the same statement may succeed later."""
    if isinstance(error, DBAPIError) and isinstance(state := getattr(error.orig, "sqlstate", None), str):
        return state[:2] in _PASSING_STATES
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(error, _PASSING)


def one_line(error: BaseException) -> str:
    """What the driver said, without SQLAlchemy's additions."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    said = (str(cause) or type(cause).__name__).splitlines()[0]
    return said.rpartition(">: ")[2]   # "<class 'asyncpg...'>: what it said"
