"""Who is signed in with this login, and how to end that."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.responses import Response

from b2bua.store.web_sessions import WebSessionRows
from web.signin import SignIn
from web.visits import Visit


class AccountPage:
    def __init__(self, rows: WebSessionRows, sign_in: SignIn) -> None:
        self._rows = rows
        self._sign_in = sign_in

    async def show(self, visit: Visit) -> Response:
        return await visit.page("account.html", sessions=await self._rows.open_of(visit.client, datetime.now(UTC)))

    async def end(self, visit: Visit) -> Response:
        """One session of this login, or all but the one that asks."""
        form = await visit.form()
        own = {one.id for one in await self._rows.open_of(visit.client, datetime.now(UTC))}
        one = form.get("session", "")
        ended = own & {one} if one else own - {visit.session.id}
        await self._sign_in.end(visit.client, sorted(ended))
        if visit.session.id in ended:
            return visit.redirect("/sign-in")
        return visit.redirect("/account", "session-ended" if one else "sessions-ended")
