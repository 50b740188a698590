"""Secrets at rest: sealed with a key of ours before they reach a database or a file, and bound to their place there.

AES-256-GCM. The first key seals, all of them open: a new key is put before the old one, `smartswitch reseal` seals
everything anew, then the old one may go.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SHORTEST_KEY = 32                      # characters; the key is random, so that no stretching is needed
MARK = "sealed:1:"                     # before the key's id and what is sealed; no token begins so
_NONCE, _KEY, _ID = 12, 32, 4          # bytes


class SecretsLocked(Exception):
    """One sentence for the administrator: what is sealed cannot be opened, or nothing can be sealed."""


class Sealer:
    """`place` says whose secret it is ("crm_accounts/acme/token"): what was sealed for one place opens in no other."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Each of SHORTEST_KEY characters or more, and random. Without any, all secrets are locked."""
        derived = [_derive(key) for key in keys]
        self._keys = {key_id: AESGCM(key) for key_id, key in derived}
        self._first = derived[0][0] if derived else ""

    def seal(self, secret: str, place: str) -> str:
        """ASCII, another one each time; what is empty stays empty. Raises SecretsLocked."""
        if not secret:
            return ""
        if not self._first:
            raise SecretsLocked("there is no key to seal secrets with: set database.secret_keys")
        nonce = secrets.token_bytes(_NONCE)
        sealed = self._keys[self._first].encrypt(nonce, secret.encode(), place.encode())
        return f"{MARK}{self._first}:{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def open(self, stored: str, place: str) -> str:
        """What was sealed, or `stored` itself when it never was. Raises SecretsLocked."""
        if not is_sealed(stored):
            return stored
        key_id, _, text = stored.removeprefix(MARK).partition(":")
        key = self._keys.get(key_id)
        if key is None:
            ours = f"ours: {', '.join(self._keys)}" if self._keys else "we have none"
            raise SecretsLocked(f"{place} is sealed with the key {key_id[:2 * _ID]} ({ours}): add the old key to the "
                                "end of database.secret_keys, or give the secret once more")
        try:
            raw = base64.urlsafe_b64decode(text)
            return key.decrypt(raw[:_NONCE], raw[_NONCE:], place.encode()).decode()
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise SecretsLocked(f"{place} was changed by somebody else than us, or cut: restore it from a backup, or "
                                "give the secret once more") from error

    def has_sealed(self, text: str) -> bool:
        """Whether it seems to be a seal by a key of ours; strangers are asked for one."""
        key_id, _, _ = text.removeprefix(MARK).partition(":")
        return is_sealed(text) and key_id in self._keys

    def is_current(self, stored: str) -> bool:
        """Whether it needs no sealing anew."""
        return not stored or (bool(self._first) and stored.startswith(f"{MARK}{self._first}:"))


def is_sealed(stored: str) -> bool:
    return stored.startswith(MARK)


def _derive(key: str) -> tuple[str, bytes]:
    """(its id, which gives nothing of it away, and the key proper)"""
    material = HKDF(SHA256(), _ID + _KEY, None, b"smartswitch secrets").derive(key.encode())
    return material[:_ID].hex(), material[_ID:]
