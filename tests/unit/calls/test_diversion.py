from __future__ import annotations

from dataclasses import replace

import pytest

from b2bua.calls.diversion import MAX_TIMES, History, diverted_headers, history_of
from b2bua.cdr import ClientId
from b2bua.directory import Cause, Trunk
from b2bua.routing.plan import DialTrunk, Diverted
from b2bua.sip.headers import Headers
from b2bua.sip.message import Request
from b2bua.sip.uri import Uri
from b2bua.trunk_profiles import PROFILES, Diverting, TrunkProfile

DID = "+74951112233"


def read(*fields: tuple[str, str]) -> History:
    return history_of(Request("INVITE", Uri.sip("1", "192.0.2.9"), Headers(fields)), "RU")


def diversion(text: str) -> int:
    return read(("Diversion", text)).times


def history(text: str) -> int:
    return read(("History-Info", text)).times


@pytest.mark.parametrize(("text", "times"), [
    ("<sip:1@op>", 1),
    ("<sip:1@op>;counter=1, <sip:2@op>;counter=1", 2),
    ("<sip:1@op>;counter=4", 4),
    ('<sip:1@op>;counter="4", <sip:2@op>', 4),
    ("<sip:1@op>;counter=0", 1),
    ("<sip:1@op>;counter=-9", 1),
    ("<sip:1@op>;counter=many", 1),
    ("<sip:1@op>;counter", 1),
    (f"<sip:1@op>;counter={'9' * 200}", MAX_TIMES),
    ("<<nonsense", 0),
    (", ".join(f"<sip:{n}@op>" for n in range(100)), 20),
])
def test_diversions_are_counted_by_entry_or_by_counter(text: str, times: int) -> None:
    assert diversion(text) == times


@pytest.mark.parametrize(("text", "times"), [
    ("<sip:1@op>;index=1", 0),
    ("<sip:1@op>;index=1, <sip:2@op>;index=1.1;mp=1", 1),
    ("<sip:1@op>;index=1, <sip:2@op>;index=1.1", 1),                           # RFC 4244: nothing is marked
    ("<sip:1@op>, <sip:2@op>, <sip:3@op>", 2),                                 # nor numbered
    # Through five proxies to the same user, and to the contact of that one: sent on by nobody.
    ("<sip:1@a>;index=1, <sip:1@b>;index=1.1;np=1, <sip:1@c>;index=1.1.1;np=1.1, <sip:1@d>;index=1.1.1.1, "
     "<sip:1@e>;index=1.1.1.1.1;np=1, <sip:x7f@192.0.2.1>;index=1.1.1.1.1.1;rc=1", 0),
    # Two branches failed before the third one led to us.
    ("<sip:1@a>;index=1, <sip:2@a>;index=1.1;mp=1, <sip:3@a>;index=1.2;mp=1, <sip:4@a>;index=1.3;mp=1", 1),
    ("<sip:1@a>;index=1, <sip:2@a>;index=1.1;mp=1, <sip:3@a>;index=1.10;mp=1", 1),      # 1.1 is not above 1.10
    ("<sip:1@a>;index=1, <sip:1@b>;index=1.1;mp=1", 1),
    ("nonsense;index, <sip:1@a>;index=, <sip:2@a>;index=..", 0),
])
def test_a_history_is_counted_along_the_way_to_us(text: str, times: int) -> None:
    assert history(text) == times


def test_whichever_header_tells_more_counts_and_all_numbers_are_known_in_one_form() -> None:
    told = read(("Diversion", "<sip:84950000001@op>, <tel:+7-495-000-00-02>, <sip:anonymous@op>"),
                ("History-Info", f"<sip:9160000001;cpc=ordinary@op>;index=1, <sip:{DID}@op>;index=1.1;mp=1"))
    assert told.times == 3
    assert told.numbers >= {"+74950000001", "+74950000002", "+79160000001"}
    assert DID not in told.numbers
    assert read() == History()


@pytest.mark.parametrize(("cause", "reason", "code"), [
    (Cause.ALWAYS, "unconditional", 302), (Cause.BUSY, "user-busy", 486), (Cause.NO_ANSWER, "no-answer", 408),
    (Cause.UNREGISTERED, "unavailable", 503), (None, "deflection", 480),
])
@pytest.mark.parametrize("how", Diverting)
def test_each_profile_has_it_told_in_its_way(
    monkeypatch: pytest.MonkeyPatch, how: Diverting, cause: Cause | None, reason: str, code: int
) -> None:
    rules = replace(PROFILES["plain"], diversion=how)
    monkeypatch.setattr(Trunk, "rules", property(lambda trunk: rules))
    trunk = Trunk(ClientId("acme"), "op", "192.0.2.1", domain="op.test")
    step = DialTrunk(trunk, "79160000001", DID, 120, "", Diverted(DID, cause), "+79160000001")
    old = ("Diversion", f"<sip:74951112233@op.test>;reason={reason};counter=3")
    new = ("History-Info", "<sip:74951112233@op.test>;index=1, "
           f"<sip:79160000001@op.test;cause={code}>;index=1.1;mp=1")
    wanted = {Diverting.NONE: (), Diverting.DIVERSION: (old,), Diverting.HISTORY_INFO: (new,),
              Diverting.BOTH: (old, new)}
    assert diverted_headers(step, 2) == wanted[how]
    assert diverted_headers(replace(step, diverted=None), 2) == ()
    if how in (Diverting.DIVERSION, Diverting.BOTH):         # the next exchange, or we, count one more
        assert read(*wanted[how]).times == 3


def test_diversion_alone_is_the_rule() -> None:
    assert TrunkProfile("").diversion is Diverting.DIVERSION
    assert {name for name, rules in PROFILES.items() if rules.diversion is not Diverting.DIVERSION} == {"account-ppi"}
