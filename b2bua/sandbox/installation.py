"""Install and Off of an integration's widget, as an administrator presses them in amoCRM's window."""

from __future__ import annotations

from b2bua.sandbox.account import Account
from b2bua.sandbox.outgoing import disconnect_signature
from b2bua.sandbox.state import SandboxState


async def install(
    state: SandboxState, client_id: str, subdomain: str | None = None, *, user: int | None = None,
    code: str | None = None,
) -> int | None:
    """Tells the Redirect URI a code, once; `code`: a foreign one instead. The status that it answered, or None."""
    account = state.account(subdomain)
    _widget_is(account, client_id, is_active=True)
    if code is None:
        code = state.tokens.issue_code(state.grant(account, client_id, user), state.clock.now())
    said = {"code": code, "referer": state.host_of(account), "from_widget": "1", "client_id": client_id}
    return await state.outgoing.get(state.tokens.integrations[client_id].redirect_uri, said)


async def switch_off(
    state: SandboxState, client_id: str, subdomain: str | None = None, *, is_forged: bool = False
) -> int | None:
    """Tells the disconnect URL, once; all tokens are dead before. Forged: by a stranger, so that only the request with
    its wrong signature happens."""
    account, integration = state.account(subdomain), state.tokens.integrations[client_id]
    secret = integration.client_secret
    if is_forged:
        secret += "?"
    else:
        _widget_is(account, client_id, is_active=False)
        state.tokens.revoke(client_id, account.id)
    if integration.disconnect_url is None:
        return None
    signature = disconnect_signature(secret, client_id, account.id)
    said = {"account_id": str(account.id), "client_uuid": client_id, "signature": signature}
    return await state.outgoing.get(integration.disconnect_url, said)


def _widget_is(account: Account, client_id: str, *, is_active: bool) -> None:
    for widget in account.widgets.values():
        if widget.client_id == client_id:
            widget.is_active = is_active
