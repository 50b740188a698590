"""How the command line asks the daemon on this machine: HTTP, with the token that it keeps in its data directory."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import httpx

from b2bua.config import Settings
from b2bua.keys import read_control_token

DAEMON_SECONDS = 3.0


class DaemonUnreachable(Exception):
    """One sentence: why the daemon could not be asked."""


class DaemonRefused(Exception):
    """What the daemon says is wrong with the question, and what to do."""


def ask_daemon(
    settings: Settings, method: str, path: str, body: object = None, *, patience: float = DAEMON_SECONDS
) -> dict[str, Any]:
    """The answer, an object, within `patience` seconds. Raises DaemonUnreachable, DaemonRefused."""
    token = read_control_token(settings.server.data_dir)
    if token is None:
        raise DaemonUnreachable(
            f"no daemon has run in {settings.server.data_dir}, or its keys are not for this user")
    try:
        answer = httpx.request(
            method, f"{_local_url(settings)}{path}", json=body, headers={"Authorization": f"Bearer {token}"},
            timeout=patience, trust_env=False, verify=False)  # noqa: S501 - this never leaves the machine
        if answer.status_code in (400, 404):
            problem = answer.json()
            raise DaemonRefused(f"{problem['title']}. {problem['remedy']}")
        answer.raise_for_status()
        found = answer.json()
        if not isinstance(found, dict):
            raise TypeError("its answer is no object")
    except (httpx.HTTPError, ValueError, TypeError, KeyError) as error:
        raise DaemonUnreachable(f"the daemon does not answer at {_local_url(settings)}: {error}") from error
    return found


def _local_url(settings: Settings) -> str:
    host = ip_address(settings.web.host)
    if host.is_unspecified:
        host = ip_address("127.0.0.1" if host.version == 4 else "::1")
    return settings.web.local_url(str(host), settings.web.port)
