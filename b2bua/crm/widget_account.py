"""Whose widget it is: what the tokens of an account's page are held against."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import urlsplit

from b2bua.cdr import ClientId


@dataclass(frozen=True, slots=True)
class WidgetAccount:
    """One client's CRM as its widget's tokens name it."""

    client: ClientId
    secret: str = field(repr=False)    # of its integration
    audience: str                      # scheme and host of the integration's redirect address; "": ours
    origins: frozenset[str]            # of the account's pages: as applied, and where it has moved to
    account: int | None                # its id; None: not connected yet


@lru_cache(4_096)
def origin_of(url: str) -> str:
    """"https://acme.amocrm.ru" of any address there, as browsers write it; "" when it is none."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return ""
    if not host or parts.scheme not in ("https", "http"):
        return ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, _PORTS[parts.scheme]) else "")


_PORTS = {"https": 443, "http": 80}
