"""The secrets of this installation: taken from the settings, or made once and kept where only we can read them."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError

from b2bua.config import Settings
from b2bua.sealing import Sealer

DIRECTORY = "keys"                     # in data_dir
LONGEST_SECRET = 4_096                 # bytes; a larger file is something else
UNMISTAKABLE = "abcdefghjkmnpqrstuvwxyz23456789"           # no two that look alike on a screen
PASSWORD_GROUPS, PASSWORD_GROUP = 4, 5                     # 99 bits, as "xxxxx-xxxxx-xxxxx-xxxxx"


class KeysUnavailable(Exception):
    """One sentence for the administrator."""


@dataclass(frozen=True, slots=True)
class Keys:
    link: bytes = field(repr=False)                # seals links to recordings
    session: bytes = field(repr=False)             # seals sessions of the pages; another password makes another key
    operator_password: str = field(repr=False)     # plain when we made it, "" when the settings gave it
    operator_hash: str = field(repr=False)         # argon2id
    control_token: str = field(repr=False)         # for the command line on this machine


def open_keys(settings: Settings) -> Keys:
    """What the settings do not give is made and kept in data_dir/keys. Raises KeysUnavailable."""
    directory = settings.server.data_dir / DIRECTORY
    given_link, given = settings.web.link_key, settings.web.operator_password
    link = given_link.get_secret_value() if given_link else _kept(directory / "link", _token)
    password = given.get_secret_value() if given else _kept(directory / "operator-password", _password)
    session = _kept(directory / "session", _token)
    return Keys(
        link=link.encode(),
        session=hmac.digest(session.encode(), password.encode(), hashlib.sha256),
        operator_password="" if given else password,
        operator_hash=password if is_argon2id(password) else PasswordHasher().hash(password),
        control_token=_kept(directory / "control", _token),
    )


def open_sealer(settings: Settings) -> Sealer:
    """What opens the secrets in the database: by the keys of the settings, or one of our own, kept as all others are.
    Raises KeysUnavailable."""
    given = [key.get_secret_value() for key in settings.database.secret_keys]
    return Sealer(given or [_kept(settings.server.data_dir / DIRECTORY / "database", _token)])


def read_control_token(data_dir: Path) -> str | None:
    """What the daemon of this directory lets the command line in by; None when there is none, or not for us."""
    try:
        return _read(data_dir / DIRECTORY / "control") or None
    except OSError:
        return None


def is_argon2id(text: str) -> bool:
    """Whether a setting is a hash already, not a password."""
    try:
        return text.startswith("$argon2id$") and bool(extract_parameters(text))
    except InvalidHashError:
        return False


def _token() -> str:
    return secrets.token_urlsafe(32)


def _password() -> str:
    groups = ("".join(secrets.choice(UNMISTAKABLE) for _ in range(PASSWORD_GROUP)) for _ in range(PASSWORD_GROUPS))
    return "-".join(groups)


def _kept(path: Path, make: Callable[[], str]) -> str:
    """The secret in this file; made when there is no file. Two who start at once end up with the same one."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _write_once(path, make())
        secret = _read(path)
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or "it is no text"
        raise KeysUnavailable(f"Cannot keep secrets in {path}: {why}; make the directory {path.parent} writable and "
                              "readable for the user that Smartswitch runs as, or set server.data_dir.") from error
    if not secret:
        raise KeysUnavailable(f"{path} is empty; delete it to have a new secret made, or restore it from a backup.")
    return secret


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(LONGEST_SECRET).decode().strip()


def _write_once(path: Path, secret: str) -> None:
    """All of it or nothing is ever seen under its name, and what is there stays: os.link never replaces."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)     # 0600 by itself
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(secret + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        except OSError:                # a file system without hard links
            Path(temporary).replace(path)
        _sync(path.parent)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
