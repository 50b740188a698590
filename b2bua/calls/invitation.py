"""What a call's INVITEs say: the offer, and who is shown as calling."""

from __future__ import annotations

from dataclasses import dataclass

from b2bua.calls.call import CallInProgress
from b2bua.directory import Extension
from b2bua.ua.leg import Inbox


@dataclass(frozen=True, slots=True)
class Shown:
    """Who calls, as phones show it. No number: it is withheld, or there is none."""

    number: str
    name: str


@dataclass(frozen=True, slots=True)
class Invitation:
    call: CallInProgress
    inbox: Inbox                           # where the answers come
    offer: bytes                           # b"": whoever answers makes the offer
    shown: Shown
    withheld: bool                         # outside, nobody learns who calls
    referred_by: str = ""                  # of the REFER that it follows from (RFC 3892)
    outside_offer: bytes = b""             # for trunks, many of which refuse an INVITE without one

    alert: tuple[tuple[str, str], ...] = ()    # how phones shall ring

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        referred_by = (("Referred-By", self.referred_by),) if self.referred_by else ()
        return (*referred_by, *self.alert)


def shown(call: CallInProgress, extension: Extension | None) -> Shown:
    """A colleague by name; the outside party by the CRM's name, where there is one (F6)."""
    if extension is not None:
        return Shown(extension.number, extension.name)
    contact, crm = call.contact, call.crm
    return Shown(call.outside_party, contact.name if contact and crm and crm.functions.set_caller_name else "")
