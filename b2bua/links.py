"""Addresses that nobody can guess, made from our key and therefore kept nowhere: links to recordings, by which who has
one may listen, and where a client's CRM tells its changes."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from b2bua.cdr import ClientId

SEAL_BYTES = 24                        # of HMAC-SHA256: 192 bits
LONGEST_TOKEN = 200                    # characters; longer ones are not ours
# So that a seal made with this key for anything else opens neither.
_PURPOSE, _HOOKS_PURPOSE = b"recording:", b"crm webhook:"


@dataclass(frozen=True, slots=True)
class OpenedLink:
    recording: str
    until: datetime | None             # None: for ever


class RecordingLinks:
    """`/r/<recording>.<seal>.mp3`, or, limited in time, `/r/<recording>.<seconds of the epoch>.<seal>.mp3`: the seal is
    of all that stands before it. Another key breaks all links there are."""

    def __init__(self, key: bytes, public_url: str) -> None:
        self._key = key
        self.public_url = public_url.rstrip("/")

    def url(self, recording: str, until: datetime | None = None) -> str:
        """For whoever is elsewhere."""
        return self.public_url + self.path(recording, until)

    def path(self, recording: str, until: datetime | None = None) -> str:
        """For our own pages, by whatever name the browser reached us."""
        said = recording if until is None else f"{recording}.{int(until.timestamp())}"
        return f"/r/{said}.{self._seal(said)}.mp3"

    def for_notes(self, days: int, clock: Callable[[], datetime]) -> Callable[[str], str]:
        """Recording -> the link as the CRM keeps it: for so many days from now, 0: for ever."""
        return lambda recording: self.url(recording, clock() + timedelta(days=days) if days else None)

    def opened(self, token: str) -> OpenedLink | None:
        """What the token of a path stands for, whether or not its time is over; None when we did not make it."""
        said, _, seal = token.rpartition(".")
        if not said or len(token) > LONGEST_TOKEN or not token.isascii():
            return None
        if not hmac.compare_digest(seal, self._seal(said)):
            return None
        recording, _, until = said.partition(".")      # no id of a recording has a dot
        return OpenedLink(recording, datetime.fromtimestamp(int(until), UTC) if until else None)

    def _seal(self, said: str) -> str:
        return _sealed(self._key, _PURPOSE, said)


class WebhookLinks:
    """`/hooks/amocrm/<client>.<seal>`. Without an https address of ours there are none: hints would come in the clear,
    and the seal with them."""

    def __init__(self, key: bytes, public_url: str | None) -> None:
        self._key = key
        self._public_url = (public_url or "").rstrip("/")

    def url(self, client: ClientId) -> str | None:
        return self._public_url + self.path(client) if self._public_url.startswith("https://") else None

    def path(self, client: ClientId) -> str:
        return f"/hooks/amocrm/{client}.{_sealed(self._key, _HOOKS_PURPOSE, client)}"

    def client(self, token: str) -> ClientId | None:
        """The client that `<client>.<seal>` stands for; None when we did not make it."""
        client, _, seal = token.rpartition(".")
        if not client or len(token) > LONGEST_TOKEN or not token.isascii():
            return None
        return ClientId(client) if hmac.compare_digest(seal, _sealed(self._key, _HOOKS_PURPOSE, client)) else None


def _sealed(key: bytes, purpose: bytes, what: str) -> str:
    digest = hmac.digest(key, purpose + what.encode(), hashlib.sha256)
    return urlsafe_b64encode(digest[:SEAL_BYTES]).decode()
