"""RFC 4028 as tables."""

from __future__ import annotations

import pytest

from b2bua.sip import session_timer
from b2bua.sip.effects import Party
from b2bua.sip.message import Request, Response
from b2bua.sip.session_timer import Agreement, SessionTimerPolicy
from b2bua.sip.uri import Uri

TAME, ASKING = SessionTimerPolicy(), SessionTimerPolicy(expires=600, ask=True)


def request(session_expires: str | None, *, peer_can: bool = True) -> Request:
    headers = [] if session_expires is None else [("Session-Expires", session_expires)]
    return Request("INVITE", Uri.parse("sip:b@h"), [*headers, *([("Supported", "timer")] if peer_can else [])])


@pytest.mark.parametrize(("policy", "asked", "peer_can", "expected"), [
    (TAME, None, True, None),
    (TAME, None, False, None),
    (ASKING, None, True, Agreement(600, Party.REMOTE)),
    (ASKING, None, False, None),
    (TAME, "1800", True, Agreement(1800, Party.REMOTE)),
    (TAME, "1800;refresher=uac", True, Agreement(1800, Party.REMOTE)),
    (TAME, "1800;refresher=uas", True, Agreement(1800, Party.LOCAL)),
    (TAME, "1800", False, Agreement(1800, Party.LOCAL)),            # a proxy put it in
])
def test_what_a_callee_grants(
    policy: SessionTimerPolicy, asked: str | None, peer_can: bool, expected: Agreement | None
) -> None:
    assert session_timer.as_uas(policy, request(asked, peer_can=peer_can)) == expected


@pytest.mark.parametrize(("agreement", "expected"), [
    (None, []),
    (Agreement(1800, Party.LOCAL), [("Session-Expires", "1800;refresher=uas")]),
    (Agreement(1800, Party.REMOTE), [("Session-Expires", "1800;refresher=uac"), ("Require", "timer")]),
])
def test_how_a_callee_says_so(agreement: Agreement | None, expected: list[tuple[str, str]]) -> None:
    assert list(session_timer.granted(agreement)) == expected


@pytest.mark.parametrize(("told", "expected"), [
    (None, None),
    ("1800;refresher=uac", Agreement(1800, Party.LOCAL)),
    ("1800;refresher=uas", Agreement(1800, Party.REMOTE)),
    ("1800", Agreement(1800, Party.LOCAL)),
    ("5;refresher=uac", Agreement(90, Party.LOCAL)),               # nobody drives us to refresh without pause
])
def test_what_a_caller_makes_of_a_2xx(told: str | None, expected: Agreement | None) -> None:
    headers = [] if told is None else [("Session-Expires", told)]
    assert session_timer.as_uac(TAME, Response(200, headers=headers)) == expected


@pytest.mark.parametrize(("policy", "agreement", "min_se", "expected"), [
    (TAME, None, 0, []),
    (ASKING, None, 0, [("Session-Expires", "600")]),
    (TAME, None, 3600, [("Session-Expires", "3600"), ("Min-SE", "3600")]),
    (TAME, Agreement(1800, Party.LOCAL), 0, [("Session-Expires", "1800;refresher=uac")]),
    (TAME, Agreement(1800, Party.REMOTE), 0, [("Session-Expires", "1800;refresher=uas")]),
    (TAME, Agreement(100, Party.LOCAL), 200, [("Session-Expires", "200;refresher=uac"), ("Min-SE", "200")]),
    (SessionTimerPolicy(min_se=120), Agreement(1800, Party.LOCAL), 0,
     [("Session-Expires", "1800;refresher=uac"), ("Min-SE", "120")]),
])
def test_what_a_request_asks(
    policy: SessionTimerPolicy, agreement: Agreement | None, min_se: int, expected: list[tuple[str, str]]
) -> None:
    assert list(session_timer.asked(policy, agreement, min_se)) == expected


@pytest.mark.parametrize(("asked", "too_brief"), [(None, False), ("89", True), ("90", False), ("1800", False)])
def test_what_is_too_brief(asked: str | None, too_brief: bool) -> None:
    assert session_timer.is_too_brief(TAME, request(asked)) is too_brief


def test_refreshed_at_half_the_interval_and_ended_a_little_before_its_end() -> None:
    agreement = Agreement(1800, Party.LOCAL)
    assert (agreement.refresh_after, agreement.ends_after) == (900, 1768)
    assert Agreement(90, Party.LOCAL).ends_after == 60
