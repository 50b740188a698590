"""Trunks of an office: lines to operators, whether they are up, and a test of each that says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from b2bua.apply.office import Office, Part, Thing
from b2bua.cdr import ClientId
from b2bua.control import BeingTested, Control, TrunkState
from b2bua.metrics import WebCounters
from b2bua.trunk_profiles import PROFILES
from web.forms import Block
from web.problems import Problem
from web.setup.things import MOST_LISTED, SetUp, ThingPages, client_of, matching, office_of, path_of
from web.signin import SignIn
from web.trunk_words import FAULTS
from web.visits import Visit

RETRY_SECONDS = 5                      # told to who tests too often


class TrunkPages(ThingPages):
    part = Part.TRUNK
    template = "trunk.html"
    blocks = (
        Block("Line", ("name", "host", "port", "transport", "networks")),
        Block("Account", ("register", "user", "password", "domain")),
        Block("Numbers", ("caller_id", "country")),
        Block("Outgoing calls", ("priority", "weight", "prefixes", "max_calls"), folded=True),
        Block("Kind of operator", ("profile", "number_format", "caller_format", "identity", "from_shows", "trusts"),
              folded=True),
    )
    _of_operators = Block("Files for TLS", ("ca_file", "certificate", "certificate_key"), folded=True)

    def __init__(self, set_up: SetUp, sign_in: SignIn, control: Control, counters: WebCounters) -> None:
        super().__init__(set_up, sign_in)
        self._control = control
        self._counters = counters

    def routes(self) -> list[Route]:
        return [*super().routes(),
                Route("/clients/{client}/trunks/{key}/test", self._sign_in.only(self.test), methods=["POST"])]

    async def index(self, visit: Visit) -> Response:
        office = await office_of(visit, self._offices)
        wanted = visit.request.query_params.get("q", "")
        found = matching(office.all_of(Part.TRUNK), wanted)
        return await visit.page("trunks.html", client=office.client, here="trunks", wanted=wanted,
                                trunks=found[:MOST_LISTED], found=len(found),
                                states=states_of(self._control, office.client))

    def blocks_for(self, visit: Visit, office: Office, form: Mapping[str, str] | None = None) -> Sequence[Block]:
        """Files of the server are none of a client's business: complaints would tell which there are."""
        return self.blocks if visit.client is not None else (*self.blocks, self._of_operators)

    def more(self, visit: Visit, office: Office, thing: Thing) -> Mapping[str, Any]:
        return {"state": states_of(self._control, office.client).get(thing.key), "faults": FAULTS,
                "test": self._control.trunk_test(office.client, thing.key) if thing.key else None}

    def suggestions(self, names: Sequence[str]) -> Mapping[str, str]:
        return {"profile": "profiles"}

    async def lists(self, office: Office) -> Mapping[str, list[tuple[str, str]]]:
        return {"profiles": [(name, profile.meaning) for name, profile in PROFILES.items()]}

    async def done(self, visit: Visit, office: Office, thing: Thing, values: Mapping[str, Any]) -> Response:
        return visit.redirect(path_of(office.client, Thing(Part.TRUNK, str(values["name"]))), "saved")

    async def test(self, visit: Visit) -> Response:
        await visit.form()
        client, name = client_of(visit), visit.request.path_params["key"]
        try:
            await self._control.test_trunk(client, name)
        except BeingTested:
            raise Problem(429, "A trunk of this office is being tested", "One at a time: try again in a few seconds.",
                          retry_after=RETRY_SECONDS) from None
        except LookupError:
            raise Problem(404, "There is no such trunk at work", "One that was just saved is there in a second or two.",
                          retry_after=RETRY_SECONDS) from None
        self._counters.trunks_tested += 1
        return visit.redirect(f"{path_of(client, Thing(Part.TRUNK, name))}#test")


def states_of(control: Control, client: ClientId) -> dict[str, TrunkState]:
    return {state.name: state for state in control.trunk_states() if state.client == client}
