"""Sessions of the pages: sealed cookies that expire and can be ended, and the tokens of their forms."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from b2bua.cdr import ClientId

SESSION_SECONDS = 12 * 3600
MOST_ENDED = 10_000                    # sessions ended before they expired; the oldest are forgotten first
LONGEST_COOKIE = 400                   # characters


@dataclass(frozen=True, slots=True)
class Session:
    id: str
    expires_at: int
    client: ClientId | None = None     # whose administrator that is; None: the platform operator
    password: str = ""                 # a print of the password that opened it: another password ends it


class Sessions:
    """`ended` in another process, or before we started, comes in by `end`."""

    def __init__(self, key: bytes, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._clock = clock
        self._ended: dict[str, None] = {}

    def open(self, client: ClientId | None = None, password_hash: str = "") -> tuple[Session, str]:
        """A new session, and its cookie."""
        session = Session(secrets.token_urlsafe(16), int(self._clock()) + SESSION_SECONDS, client,
                          self.print_of(password_hash))
        content = f"{session.id}:{session.expires_at}:{client or ''}:{session.password}"
        return session, f"{content}:{self._seal('session', content)}"

    def read(self, cookie: str | None) -> Session | None:
        content, _, seal = (cookie or "")[:LONGEST_COOKIE].rpartition(":")
        if not hmac.compare_digest(seal.encode(), self._seal("session", content).encode()):
            return None
        id_, expires_at, client, password = content.split(":")
        session = Session(id_, int(expires_at), ClientId(client) if client else None, password)
        return session if self.is_open(session) else None

    def is_open(self, session: Session) -> bool:
        return session.expires_at > self._clock() and session.id not in self._ended

    def end(self, sessions: Iterable[str]) -> None:
        """By their ids."""
        self._ended.update(dict.fromkeys(sessions))
        while len(self._ended) > MOST_ENDED:
            del self._ended[next(iter(self._ended))]

    def print_of(self, password_hash: str) -> str:
        return self._seal("password", password_hash)[:12] if password_hash else ""

    def device(self, account: str, password_hash: str) -> str:
        """A cookie that says that this browser has signed in to this account; worth nothing under another password."""
        content = f"{secrets.token_urlsafe(12)}:{account}"
        return f"{content}:{self._seal('device', f'{content}:{password_hash}')}"

    def device_of(self, cookie: str | None, account: str, password_hash: str) -> str:
        """The id of the browser; "" when it has not signed in to this account."""
        content, _, seal = (cookie or "")[:LONGEST_COOKIE].rpartition(":")
        id_, _, whose = content.partition(":")
        good = hmac.compare_digest(seal.encode(), self._seal("device", f"{content}:{password_hash}").encode())
        return id_ if good and password_hash and whose == account else ""

    def form_token(self, owner: str) -> str:
        """For a form of this session, or of this visitor who has none yet: nobody else's page can send it."""
        return self._seal("form", owner)

    def is_form_token(self, owner: str, token: str) -> bool:
        return bool(owner) and hmac.compare_digest(token.encode(), self.form_token(owner).encode())

    def _seal(self, purpose: str, content: str) -> str:
        digest = hmac.digest(self._key, f"{purpose}:{content}".encode(), hashlib.sha256)
        return urlsafe_b64encode(digest[:24]).decode()
