"""One request of somebody who has signed in: who that is, what they may see, and the page that answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from b2bua.cdr import ClientId
from web.bodies import TooLarge, body_of
from web.i18n import TRANSLATIONS, language_of
from web.pages import NO_STORE, fragment, page_in_pieces
from web.problems import Problem, nothing_here
from web.sessions import Session, Sessions

LARGEST_FORM = 262_144                 # bytes
MOST_FIELDS = 1_000
AT_ONCE = 16_384                       # bytes that are taken apart on the loop; more would hold the calls up


@dataclass(frozen=True, slots=True)
class Visit:
    request: Request
    session: Session
    who: str                           # the login, for whatever is written down of what they did
    office: str                        # name of the client; "" for the operator
    sessions: Sessions

    @property
    def client(self) -> ClientId | None:
        """Whose administrator that is; None: the platform operator, who sees all."""
        return self.session.client

    @property
    def language(self) -> str:
        return language_of(self.request)

    def may_see(self, client: ClientId) -> bool:
        return self.client in (None, client)

    def demand(self, client: ClientId) -> None:
        """Raises Problem: what is another client's is not there."""
        if not self.may_see(client):
            raise nothing_here()

    def say(self, text: str) -> str:
        return TRANSLATIONS[self.language].gettext(text)

    async def form(self, largest: int = LARGEST_FORM) -> dict[str, str]:
        """What was sent, of our own pages only. Of fields with one name the last one counts. Raises Problem."""
        form = await form_of(self.request, largest)
        if not self.sessions.is_form_token(self.session.id, form.get("token", "")):
            raise Problem(403, "This form is not of your session", "Reload the page and send the form again.")
        return form

    async def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """`page.html`, which templates extend, shows the sentence of NOTICES that `redirect` has asked for."""
        return await page_in_pieces(template, status, language=self.language, **self._frame(), **values)

    def fragment(self, template: str, **values: Any) -> str:
        return fragment(template, language=self.language, **self._frame(), **values)

    def redirect(self, path: str, notice: str = "", **query: str) -> Response:
        """`notice` is one of NOTICES."""
        query |= {"notice": notice} if notice else {}
        return RedirectResponse(f"{path}?{urlencode(query)}" if query else path, 303, NO_STORE)

    def _frame(self) -> Mapping[str, Any]:
        notice = NOTICES.get(self.request.query_params.get("notice", ""))
        return {"visit": self, "path": self.request.url.path, "token": self.sessions.form_token(self.session.id),
                "notice": self.say(notice) if notice is not None else None}


Handler = Callable[[Visit], Awaitable[Response]]

NOTICES = {
    "saved": "Saved. It counts within a second or two, for new calls.",
    "removed": "Removed.",
    "client-added": "The client was added. These are its first steps.",
    "client-removed": "The client was removed.",
    "crm-connected": "The account is connected.",
    "imported": "The sheet was imported.",
    "session-ended": "The session was ended.",
    "sessions-ended": "All other sessions were ended.",
    "hung-up": "The call was hung up.",
    "transferring": "The call is being transferred: it moves as soon as somebody answers there.",
    "outbox-resent": "It is sent again within half a minute.",
    "outbox-dropped": "Dropped.",
    "outbox-unchanged": "Nothing was changed: it is on its way just now, was delivered, or somebody has decided.",
    "recording-withdrawn": "The recording was withdrawn: its links open nothing any more.",
    "recording-given-back": "The recording was given back: its links open it again.",
}


def _fields(body: bytes) -> dict[str, str]:
    return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS))


async def form_of(request: Request, largest: int) -> dict[str, str]:
    """Raises Problem."""
    try:
        body = await body_of(request, largest)
        return _fields(body) if len(body) <= AT_ONCE else await asyncio.to_thread(_fields, body)
    except TooLarge:
        raise Problem(413, "The form is too large", f"Send at most {largest} bytes.") from None
    except TimeoutError:
        raise Problem(408, "The form took too long to arrive", "Try again.") from None
    except ValueError:
        raise Problem(400, "This is no form", "Send application/x-www-form-urlencoded in UTF-8.") from None
