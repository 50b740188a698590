"""Links to recordings: who has one may listen, nobody can guess one, and no database is asked to tell."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode

SEAL_BYTES = 24                        # of HMAC-SHA256: 192 bits
LONGEST_TOKEN = 200                    # characters; longer ones are not ours
_PURPOSE = b"recording:"               # so that a seal made with this key for anything else opens no recording


class RecordingLinks:
    """`/r/<recording>.<seal>.mp3`. Another key breaks all links there are."""

    def __init__(self, key: bytes, public_url: str) -> None:
        self._key = key
        self._public_url = public_url.rstrip("/")

    def url(self, recording: str) -> str:
        """As the CRM keeps it."""
        return self._public_url + self.path(recording)

    def path(self, recording: str) -> str:
        """For our own pages, by whatever name the browser reached us."""
        return f"/r/{recording}.{self._seal(recording)}.mp3"

    def recording(self, token: str) -> str | None:
        """The recording that `<recording>.<seal>` stands for; None when we did not make it."""
        recording, _, seal = token.rpartition(".")
        if not recording or len(token) > LONGEST_TOKEN or not token.isascii():
            return None
        return recording if hmac.compare_digest(seal, self._seal(recording)) else None

    def _seal(self, recording: str) -> str:
        digest = hmac.digest(self._key, _PURPOSE + recording.encode(), hashlib.sha256)
        return urlsafe_b64encode(digest[:SEAL_BYTES]).decode()
