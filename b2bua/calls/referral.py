"""REFER: what it asks for, and the subscription by which the transferor hears how it goes (RFC 3515, RFC 6665)."""

from __future__ import annotations

from dataclasses import dataclass

from b2bua.sip.fields import NameAddr, Replaces
from b2bua.sip.grammar import ParseError
from b2bua.sip.message import Request, Response
from b2bua.ua.leg import Leg

SUBSCRIBED = 180                           # seconds, told in each NOTIFY; a transfer is over before that
SIPFRAG = "message/sipfrag;version=2.0"


@dataclass(frozen=True, slots=True)
class Order:
    """What a REFER asks for: that the other party calls `dialled`, or takes over the dialog that `replaces` names."""

    dialled: str
    replaces: Replaces | None = None
    referred_by: str = ""
    subscribes: bool = True                # RFC 4488: the transferor may not want to hear of it

    @staticmethod
    def of(refer: Request) -> Order:
        """Raises ParseError: one Refer-To is needed (RFC 3515 §2.4.1), and we place calls only."""
        if len(refer.headers.get_all("Refer-To")) != 1 or (target := refer.refer_to) is None:
            raise ParseError("One Refer-To is needed")
        uri = target.uri
        if uri.params.get("method", "INVITE").upper() != "INVITE":
            raise ParseError("Refer-To by another method than INVITE")
        replaces = next((value for name, value in uri.headers.items() if name.lower() == "replaces"), None)
        referred_by = refer.headers.get("Referred-By") or ""
        if referred_by:
            NameAddr.parse(referred_by)
        return Order(
            uri.user,
            None if replaces is None else Replaces.parse(replaces),
            referred_by,
            (refer.headers.get("Refer-Sub") or "true").partition(";")[0].strip(" \t").lower() != "false",
        )


class Referral:
    """A REFER that was accepted. One NOTIFY is under way at a time, as a later one could overtake it; only the last
    one waits for nothing.

    Deviation: by RFC 5057 §4 the subscription may outlive the call of the transferor. Phones that hang up at once
    do not look at it any more, and one that does wait keeps its call until it has heard.
    """

    def __init__(self, leg: Leg, request: Request, order: Order, first: bool) -> None:
        self.leg = leg
        self._request = request
        self._open = order.subscribes
        # RFC 3515 §2.4.6: later REFERs of a dialog are told apart by their number.
        self._event = "refer" if first else f"refer;id={request.cseq.number}"
        self._unanswered = False
        self._next: int | None = None

    def accept(self) -> None:
        """202 (RFC 3515 §2.4.2), and the first NOTIFY at once (§2.4.4)."""
        self.leg.respond(self._request, 202, () if self._open else (("Refer-Sub", "false"),))
        self.progress(100)

    def progress(self, status: int) -> None:
        if self._open and self._unanswered:
            self._next = status
        elif self._open:
            self._unanswered = True
            self._notify(status, f"active;expires={SUBSCRIBED}")

    def end(self, status: int) -> None:
        """How it came out; the first word on that stands."""
        if self._open:
            self._open = False
            self._notify(status, "terminated;reason=noresource")

    def answered(self, status: int) -> None:
        """To a NOTIFY. One that is refused, or never answered, ends the subscription (RFC 6665 §4.2.2)."""
        self._unanswered = False
        if status >= 300:
            self._open = False
        elif self._next is not None:
            status, self._next = self._next, None
            self.progress(status)

    def _notify(self, status: int, state: str) -> None:
        headers = (("Event", self._event), ("Subscription-State", state))
        self.leg.send("NOTIFY", headers, f"{Response(status).start_line}\r\n".encode(), SIPFRAG)
