"""`/_fake/`: what administrators and amoCRM itself do: Install and Off, users, renaming, widget tokens, webhooks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from b2bua.sandbox.admission import SESSION_COOKIE
from b2bua.sandbox.answers import Refused
from b2bua.sandbox.control import Handler, account_of, answer, made, object_body, sandbox_of, state_of
from b2bua.sandbox.delivery import deliver_due
from b2bua.sandbox.disposable import TokenKind, mint
from b2bua.sandbox.entities import EntityType, User
from b2bua.sandbox.installation import install, switch_off
from b2bua.sandbox.seed import SeedIntegration


@dataclass(frozen=True, slots=True)
class _Integration:
    client_id: str = "sandbox-integration"
    account: str | None = None
    user: int | None = None
    code: str | None = None            # a foreign one


@dataclass(frozen=True, slots=True)
class _Off:
    client_id: str = "sandbox-integration"
    account: str | None = None
    signature: Literal["right", "wrong"] = "right"


@dataclass(frozen=True, slots=True)
class _Token:
    user: int
    client_id: str = "sandbox-integration"
    account: str | None = None
    kind: TokenKind = TokenKind.RIGHT


@dataclass(frozen=True, slots=True)
class _User:
    id: int
    account: str | None = None
    name: str | None = None
    email: str | None = None
    is_admin: bool | None = None
    is_active: bool | None = None
    is_deleted: bool = False


@dataclass(frozen=True, slots=True)
class _Account:
    account: str | None = None
    subdomain: str | None = None       # it moves there
    is_unsorted_on: bool | None = None
    has_duplicate_control: bool | None = None


@dataclass(frozen=True, slots=True)
class _Gone:
    account: str | None = None
    type: EntityType | None = None
    id: int | None = None
    stage: int | None = None
    pipeline: int | None = None


def routes() -> list[Route]:
    table: list[tuple[str, Handler]] = [
        ("install", press_install), ("off", press_off), ("widget-token", widget_token), ("session", session),
        ("users", change_user), ("account", change_account), ("delete", delete), ("deliver", deliver),
    ]
    return [Route(f"/_fake/{path}", handler, methods=["POST"]) for path, handler in table]


async def press_install(request: Request) -> Response:
    """`answered`: the Redirect URI's status, null when there was none in time."""
    state, given = sandbox_of(request), made(_Integration, await object_body(request))
    account = account_of(request, given.account)
    _integration(request, given.client_id)
    status = await install(state, given.client_id, account.subdomain, user=given.user, code=given.code)
    return answer({"answered": status})


async def press_off(request: Request) -> Response:
    state, given = sandbox_of(request), made(_Off, await object_body(request))
    account = account_of(request, given.account)
    _integration(request, given.client_id)
    is_forged = given.signature == "wrong"
    return answer({"answered": await switch_off(state, given.client_id, account.subdomain, is_forged=is_forged)})


async def widget_token(request: Request) -> Response:
    given = made(_Token, await object_body(request))
    account, integration = account_of(request, given.account), _integration(request, given.client_id)
    return answer({"token": mint(account, integration, given.user, sandbox_of(request).clock.now(), given.kind)})


async def session(request: Request) -> Response:
    """A browser's: its cookie opens `/api/` with the rights of that user."""
    state, given = sandbox_of(request), made(_Token, await object_body(request))
    account = account_of(request, given.account)
    token = state.tokens.open_session(state.grant(account, "", given.user))
    response = answer({"cookie": f"{SESSION_COOKIE}={token}"})
    response.set_cookie(SESSION_COOKIE, token, httponly=True, samesite="lax")
    return response


async def change_user(request: Request) -> Response:
    """One that is not there is made."""
    given = made(_User, await object_body(request))
    users = account_of(request, given.account).users
    if given.is_deleted:
        users.pop(given.id, None)
    else:
        user = users.setdefault(given.id, User(given.id, f"Пользователь {given.id}", "", False, True))
        for name in ("name", "email", "is_admin", "is_active"):
            if (value := getattr(given, name)) is not None:
                setattr(user, name, value)
    return await state_of(request)


async def change_account(request: Request) -> Response:
    state, given = sandbox_of(request), made(_Account, await object_body(request))
    account = account_of(request, given.account)
    for name in ("is_unsorted_on", "has_duplicate_control"):
        if (value := getattr(given, name)) is not None:
            setattr(account, name, value)
    if given.subdomain is not None:
        state.rename(account.subdomain, given.subdomain)
    return await state_of(request)


async def delete(request: Request) -> Response:
    """A card, by `type` and `id`, a `stage` of a pipeline, or a whole `pipeline`."""
    state, given = sandbox_of(request), made(_Gone, await object_body(request))
    account = account_of(request, given.account)
    if given.type is not None and given.id is not None:
        state.delete_card(given.type, given.id, account.subdomain)
    elif given.stage is not None:
        account.delete_stage(given.stage)
    elif given.pipeline is not None:
        if given.pipeline == account.main_pipeline.id:
            raise Refused(400, "The main pipeline stays")
        account.delete_pipeline(given.pipeline)
    else:
        raise Refused(400, "type and id, stage, or pipeline is expected")
    return await state_of(request)


async def deliver(request: Request) -> Response:
    """The webhooks that are due; a server does that by itself."""
    return answer({"tried": await deliver_due(sandbox_of(request))})


def _integration(request: Request, client_id: str) -> SeedIntegration:
    """Raises Refused."""
    integration = sandbox_of(request).tokens.integrations.get(client_id)
    if integration is None:
        raise Refused(400, f"{client_id}: no such integration")
    return integration
