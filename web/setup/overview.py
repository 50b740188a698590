"""An office at a glance: what is still to be done before it can work, or how it is once it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.responses import Response
from starlette.routing import Route

from b2bua.apply.office import Office
from b2bua.cdr import ClientId
from b2bua.control import Control
from b2bua.crm.health import CrmHealth
from b2bua.crm.user_keeper import UserKeeper
from b2bua.store.calls import CallJournal
from web.crm_words import STATES
from web.setup.things import SetUp, office_of
from web.signin import SignIn
from web.visits import Visit


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an office has come, in the order in which it is set up."""

    extensions: int
    phones: int                        # that are registered, or have a fixed address
    trunks: int
    trunks_up: int
    numbers: int
    has_called: bool
    has_crm: bool
    is_connected: bool
    has_widget: bool                   # that was connected with the office's password
    users: int                         # whose extension is known

    @property
    def steps(self) -> dict[str, bool]:
        """Each with whether it is done."""
        return {
            "extensions": self.extensions > 0, "phones": self.phones > 0, "trunks": self.trunks_up > 0,
            "numbers": self.numbers > 0, "call": self.has_called, "crm": self.is_connected,
            "widget": self.has_widget, "users": self.users > 0,
        }

    @property
    def works(self) -> bool:
        """There are calls; the CRM is another matter."""
        return all(self.steps[name] for name in ("extensions", "phones", "trunks", "numbers", "call"))

    @property
    def following(self) -> str:
        """The first that is not done; "" when all are."""
        return next((name for name, is_done in self.steps.items() if not is_done), "")


class OverviewPage:
    def __init__(self, set_up: SetUp, sign_in: SignIn, control: Control, calls: CallJournal, users: UserKeeper,
                 health_of: Callable[[ClientId], CrmHealth | None]) -> None:
        self._set_up = set_up
        self._sign_in = sign_in
        self._control = control
        self._calls = calls
        self._users = users
        self._health_of = health_of

    def routes(self) -> list[Route]:
        return [Route("/clients/{client}", self._sign_in.only(self.show))]

    async def show(self, visit: Visit) -> Response:
        office = await office_of(visit, self._set_up.offices)
        client, health = office.directory.clients[0], self._health_of(office.client)
        return await visit.page(
            "overview.html", client=office.client, here="", name=client.name, login=client.login,
            progress=await self._progress(office, health), health=health, states=STATES,
            calls_now=self._control.at_work(office.client).calls,
            has_password=bool(client.password_hash), is_operator=visit.client is None)

    async def _progress(self, office: Office, health: CrmHealth | None) -> Progress:
        client, crm = office.client, office.directory.clients[0].crm
        now, own = self._control.at_work(client), self._users.directory.extensions_of.get(client, ())
        return Progress(
            extensions=len(office.directory.extensions), phones=now.phones, trunks=len(office.directory.trunks),
            trunks_up=now.trunks_up, numbers=len(office.directory.numbers),
            has_called=bool(await self._calls.last_calls(1, client)), has_crm=crm is not None,
            is_connected=health is not None and health.status.is_connected,
            has_widget=crm is not None and crm.account is not None,
            users=sum(one.crm_user is not None for one in own))
