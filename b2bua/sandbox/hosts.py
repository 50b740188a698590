"""What the Host of a request names: an account, the site of all, the API's own host, or nothing in particular."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from starlette.datastructures import Headers
from starlette.types import Scope

from b2bua.sandbox.account import Account
from b2bua.sandbox.seed import API_HOST, DOMAIN, WWW_HOST
from b2bua.sandbox.state import SandboxState


class HostKind(Enum):
    ACCOUNT = "account"
    WWW = "www"
    API = "api"
    MOVED = "moved"                    # a former name of an account
    UNKNOWN = "unknown"                # a name of our domain that nobody has
    ANY = "any"                        # an address or a foreign name, which stands for all of them


@dataclass(frozen=True, slots=True)
class Host:
    kind: HostKind
    name: str                          # with the port
    account: Account | None = None

    @property
    def api_domain(self) -> str:
        """Where an account is looked up that has moved."""
        return self.name if self.kind is HostKind.ANY else API_HOST

    def stands_for(self, kind: HostKind) -> bool:
        return self.kind in (kind, HostKind.ANY)


def host_of(state: SandboxState, scope: Scope) -> Host:
    full = Headers(scope=scope).get("host", "localhost").lower()
    name = full.partition(":")[0]
    if name in (WWW_HOST, API_HOST):
        return Host(HostKind.WWW if name == WWW_HOST else HostKind.API, full)
    if not name.endswith(f".{DOMAIN}"):
        return Host(HostKind.ANY, full)
    subdomain = name.removesuffix(f".{DOMAIN}")
    for account in state.accounts.values():
        if account.subdomain == subdomain:
            return Host(HostKind.ACCOUNT, full, account)
    moved = any(subdomain in account.former_subdomains for account in state.accounts.values())
    return Host(HostKind.MOVED if moved else HostKind.UNKNOWN, full)
