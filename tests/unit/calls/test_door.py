"""Who may come in, and what is kept of whoever asks: by method, and by whether we know anybody at that address."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import cast

import pytest

from b2bua.calls.door import Door
from b2bua.calls.switchboard import Switchboard
from b2bua.sip.admission import Admission, Answer, Refuse, Verdict
from b2bua.sip.core import CoreConfig, UserAgentCore
from b2bua.sip.effects import Address, Flow, Transport
from b2bua.sip.message import Request
from b2bua.sip.parser import parse
from b2bua.ua.agent import UserAgent
from b2bua.ua.notifier import ALLOW_EVENTS
from b2bua.ua.registrar import Challenge, Registrar
from b2bua.ua.strangers import UnknownCalls
from b2bua.ua.trunk_table import TrunkTable

HERE = Address("10.0.0.1", 5060)
PHONE, TRUNK, STRANGER = (Flow(Transport.UDP, HERE, Address(f"10.0.0.{n}", 5060)) for n in (2, 3, 4))
METHODS = ("OPTIONS", "CANCEL", "BYE", "PRACK", "UPDATE", "INFO", "NOTIFY", "REFER", "MESSAGE", "PUBLISH", "XYZZY")
CHALLENGE = (("WWW-Authenticate", "Digest one"),)


@dataclass
class House:
    """Stands for the registrar, which challenges everybody, for the trunks, and for the agent and the switchboard."""

    core: UserAgentCore = field(default_factory=lambda: UserAgentCore(CoreConfig(), Random(1)))
    unwanted_from: list[str] = field(default_factory=list)
    refused_subscriptions: list[int] = field(default_factory=list)
    counters: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(refused={"unauthenticated": 0}))

    @property
    def notifier(self) -> SimpleNamespace:
        return SimpleNamespace(subscriptions=SimpleNamespace(
            refuse=lambda status, why: self.refused_subscriptions.append(status)))

    def now(self) -> float:
        return 0.0

    def expects(self, request: Request, flow: Flow) -> bool:
        return self.knows(flow.remote.host)

    def knows(self, host: str, now: float | None = None) -> bool:
        return host == (TRUNK if now is None else PHONE).remote.host

    def screen(self, request: Request, flow: Flow, now: float, *, from_trunk: bool) -> Challenge:
        return Challenge(CHALLENGE)

    def why_not(self, request: Request, flow: Flow) -> str:
        return "no trunk has that address"

    def suspect(self, request: Request, flow: Flow, now: float) -> None:
        pass

    def unwanted(self, host: str, now: float) -> None:
        self.unwanted_from.append(host)

    def admit(self, method: str, flow: Flow, *more: str) -> Verdict:
        door = Door(cast(Switchboard, self), cast(UserAgent, self), cast(Registrar, self), cast(TrunkTable, self),
                    lambda: 0.0, UnknownCalls.CHALLENGE)      # type: ignore[arg-type, return-value]
        lines = [f"{method} sip:101@pbx SIP/2.0", "Via: SIP/2.0/UDP a;branch=z9hG4bK1", "From: <sip:a@a>;tag=1",
                 "To: <sip:101@pbx>", "Call-ID: c", f"CSeq: 1 {method}", *more, "", ""]
        request = parse("\r\n".join(lines).encode())
        assert isinstance(request, Request)
        return door.admit(request, flow)


@pytest.mark.parametrize("flow", [PHONE, TRUNK], ids=["phone", "trunk"])
def test_nothing_is_kept_of_what_belongs_to_no_call_from_addresses_that_may_be_forged(flow: Flow) -> None:
    house = House()
    said = {method: house.admit(method, flow) for method in METHODS}
    assert all(isinstance(verdict, Answer) for verdict in said.values())
    statuses = {method: verdict.status for method, verdict in said.items() if isinstance(verdict, Answer)}
    assert statuses == dict.fromkeys(METHODS, 405) | {"OPTIONS": 200, "CANCEL": 481, "INFO": 481, "NOTIFY": 481}
    assert said["OPTIONS"] == Answer(200, extras=(*house.core.capabilities, ALLOW_EVENTS))
    assert "MESSAGE" not in str(said["MESSAGE"])            # what is not allowed here is not among the allowed
    assert house.admit("SUBSCRIBE", flow, "Event: presence") == Refuse(489, (ALLOW_EVENTS,))
    assert house.refused_subscriptions == [489]
    assert house.unwanted_from == []


@pytest.mark.parametrize("method", [*METHODS, "SUBSCRIBE"])
def test_a_stranger_gets_silence_and_is_counted(method: str) -> None:
    house = House()
    assert house.admit(method, STRANGER) is Admission.IGNORE
    assert house.unwanted_from == [STRANGER.remote.host]


def test_calls_registrations_and_subscriptions_are_challenged_unless_they_come_from_a_trunk() -> None:
    house = House()
    for flow in (PHONE, TRUNK, STRANGER):
        assert house.admit("REGISTER", flow) == Refuse(401, CHALLENGE)
        assert house.admit("SUBSCRIBE", flow, "Event: dialog") == Refuse(401, CHALLENGE)
        assert house.admit("INVITE", flow) == (Admission.ADMIT if flow is TRUNK else Refuse(401, CHALLENGE))
    assert house.unwanted_from == []
