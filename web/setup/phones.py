"""What a phone is told: a page for who sets it up, with a QR code, and the file that Linphone fetches by it."""

from __future__ import annotations

import asyncio
import io

import segno
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from b2bua.handouts import Handouts, linphone_xml
from web.pages import NO_STORE
from web.problems import Problem, nothing_here
from web.setup.things import SetUp, client_of
from web.signin import SignIn
from web.visits import Visit

QR_SCALE = 5                           # pixels of a module
QR_BORDER = 4                          # modules that must stay light around it (ISO/IEC 18004)


class PhonePages:
    def __init__(self, set_up: SetUp, sign_in: SignIn, handouts: Handouts) -> None:
        self._set_up = set_up
        self._sign_in = sign_in
        self._handouts = handouts

    def routes(self) -> list[Route]:
        return [
            Route("/clients/{client}/phones/{page}", self._sign_in.only(self.show)),
            Route("/provision/{link}", self.provision),
        ]

    async def show(self, visit: Visit) -> Response:
        client = client_of(visit)
        handout = self._handouts.look(visit.request.path_params["page"], asyncio.get_running_loop().time())
        if handout is None or handout.phones[0].client != client:
            raise nothing_here()
        link = f"{self._set_up.public_url}/provision/{handout.link}"
        code = await asyncio.to_thread(_qr, link) if self._handouts.is_open(handout.link) else ""
        return await visit.page("phones.html", client=client, here="extensions", phones=handout.phones, code=code,
                                link=link, servers=self._set_up.servers)

    async def provision(self, request: Request) -> Response:
        """Once: whoever comes second, or too late, is told so."""
        link, now = request.path_params["link"], asyncio.get_running_loop().time()
        if request.method == "HEAD":
            return Response(status_code=200 if self._handouts.is_open(link) else 410, headers=NO_STORE)
        phone = self._handouts.fetch(link, now) if self._set_up.servers else None
        if phone is None:
            raise Problem(410, "This link was used already, or is too old",
                          "Make a new password on the page of the extension, and scan its code.")
        xml = linphone_xml(phone, self._set_up.servers[0], self._set_up.realm)
        return Response(xml, headers=NO_STORE, media_type="application/xml")


def _qr(text: str) -> Markup:
    """Inline SVG: dark on light in both colour schemes, as cameras want it."""
    out = io.BytesIO()
    segno.make(text, error="m", micro=False).save(out, kind="svg", scale=QR_SCALE, border=QR_BORDER, xmldecl=False,
                                                  svgns=False, light="#fff", dark="#000", omitsize=False,
                                                  title=None, svgclass="qr", lineclass=None)
    return Markup(out.getvalue().decode())  # noqa: S704 - segno's own markup; the text is drawn, not written
