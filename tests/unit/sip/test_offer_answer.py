"""The exchange of offers as a table, and where session descriptions are found."""

from __future__ import annotations

import pytest

from b2bua.sip.effects import Party
from b2bua.sip.message import Response
from b2bua.sip.offer_answer import OfferAnswer, sdp_of

SDP = b"v=0\r\ns=-\r\n"
MIXED = (b"--x\r\nContent-Type: application/isup\r\n\r\n\x01\x02\r\n"
         b"--x\r\nContent-Type: application/sdp\r\n\r\nv=0\r\ns=-\r\n--x--\r\n")


@pytest.mark.parametrize(("content_type", "body", "expected"), [
    ("application/sdp", SDP, SDP),
    ("Application/SDP ; charset=utf-8", SDP, SDP),
    (None, SDP, SDP),
    (None, b"hello", b""),
    ("application/sdp", b"", b""),
    ("text/plain", SDP, b""),
    ('multipart/mixed; boundary="x"', MIXED, SDP),
    ("multipart/mixed;boundary=x", MIXED, SDP),
    ("multipart/mixed", MIXED, b""),
    ("multipart/mixed;boundary=y", MIXED, b""),
    ("multipart/mixed;boundary=x", b"--x", b""),
])
def test_where_a_session_description_is_found(content_type: str | None, body: bytes, expected: bytes) -> None:
    headers = [] if content_type is None else [("Content-Type", content_type)]
    assert sdp_of(Response(200, headers=headers, body=body)) == expected


def test_an_exchange_runs_from_offer_to_answer() -> None:
    offers = OfferAnswer()
    offers.offer(Party.LOCAL)
    assert (offers.pending, offers.settled) == (Party.LOCAL, False)
    offers.answer()
    assert (offers.pending, offers.settled) == (None, True)


def test_a_refused_offer_leaves_what_was_agreed() -> None:
    offers = OfferAnswer()
    offers.offer(Party.LOCAL)
    offers.answer()
    offers.offer(Party.REMOTE)
    offers.withdraw()
    assert (offers.pending, offers.settled) == (None, True)


@pytest.mark.parametrize("second", list(Party))
def test_offers_do_not_overlap(second: Party) -> None:
    offers = OfferAnswer()
    offers.offer(Party.LOCAL)
    with pytest.raises(AssertionError, match="overlap"):
        offers.offer(second)


def test_there_is_no_answer_without_an_offer() -> None:
    with pytest.raises(AssertionError):
        OfferAnswer().answer()
