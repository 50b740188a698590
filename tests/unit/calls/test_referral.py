"""REFER as it is read, and what its sender hears of it."""

from __future__ import annotations

from typing import cast

import pytest

from b2bua.calls.referral import Order, Referral
from b2bua.sip.fields import Replaces
from b2bua.sip.grammar import ParseError
from b2bua.sip.message import Request
from b2bua.sip.uri import Uri
from b2bua.ua.leg import HeaderFields, Leg

TERMINATED = "terminated;reason=noresource"


def refer(refer_to: str, *headers: tuple[str, str], number: int = 7) -> Request:
    fields = [("CSeq", f"{number} REFER"), ("Refer-To", refer_to), *headers]
    return Request("REFER", Uri.parse("sip:pbx.test"), fields)


class Heard:
    """A leg that keeps what is sent in its dialog."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, HeaderFields]] = []
        self.notifies: list[tuple[str, str, str]] = []

    def respond(self, request: Request, status: int, headers: HeaderFields = ()) -> None:
        self.answers.append((status, tuple(headers)))

    def send(self, method: str, headers: HeaderFields, body: bytes, content_type: str) -> None:
        assert (method, content_type) == ("NOTIFY", "message/sipfrag;version=2.0")
        fields = dict(headers)
        self.notifies.append((body.decode(), fields["Event"], fields["Subscription-State"]))


def referral(request: Request, first: bool = True) -> tuple[Referral, Heard]:
    heard = Heard()
    return Referral(cast(Leg, heard), request, Order.of(request), first), heard


@pytest.mark.parametrize(
    ("refer_to", "dialled"),
    [
        ("<sip:103@pbx.test>", "103"),
        ("sip:103@pbx.test", "103"),
        ('"Vera" <sips:103@10.0.0.1:5061;transport=tcp>', "103"),
        ("<tel:+79265554433>", "+79265554433"),
        ("<sip:103@pbx.test;method=INVITE>", "103"),
        ("<sip:pbx.test>", ""),
    ],
)
def test_whom_a_refer_names(refer_to: str, dialled: str) -> None:
    assert Order.of(refer(refer_to)) == Order(dialled)


def test_a_refer_may_name_a_dialog_and_say_who_sends_it_and_that_nobody_listens() -> None:
    order = Order.of(refer(
        "<sip:103@pbx.test?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2&Require=replaces>",
        ("Referred-By", "<sip:102@pbx.test>"), ("Refer-Sub", " FALSE ;x=y"),
    ))  # fmt: skip
    assert order == Order("103", Replaces("a@b", "1", "2"), "<sip:102@pbx.test>", subscribes=False)


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("Refer-To", "<sip:1@a>"), ("Refer-To", "<sip:2@a>")),
        (("Refer-To", ""),),
        (("Refer-To", "<<<>>>"),),
        (("Refer-To", "<sip:1@a;method=BYE>"),),
        (("Refer-To", "<sip:1@a?Replaces=x>"),),
        (("Refer-To", "<sip:1@a>"), ("Referred-By", "<<<")),
    ],
)
def test_what_makes_no_sense(headers: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(ParseError):
        Order.of(Request("REFER", Uri.parse("sip:pbx.test"), headers))


def test_the_sender_hears_all_in_order_one_at_a_time_and_the_end_at_once() -> None:
    subscription, heard = referral(refer("<sip:103@pbx.test>"))
    subscription.accept()
    subscription.progress(180)
    subscription.progress(180)
    assert heard.answers == [(202, ())]
    assert heard.notifies == [("SIP/2.0 100 Trying\r\n", "refer", "active;expires=180")]
    subscription.answered(200)
    assert heard.notifies[1:] == [("SIP/2.0 180 Ringing\r\n", "refer", "active;expires=180")]
    subscription.end(200)
    subscription.end(487)
    subscription.answered(200)
    subscription.progress(180)
    assert heard.notifies[2:] == [("SIP/2.0 200 OK\r\n", "refer", TERMINATED)]


def test_a_later_one_of_the_same_dialog_is_told_apart_by_its_number() -> None:
    subscription, heard = referral(refer("<sip:103@pbx.test>", number=9), first=False)
    subscription.accept()
    assert heard.notifies[0][1] == "refer;id=9"


def test_a_notify_that_is_refused_is_the_last() -> None:
    subscription, heard = referral(refer("<sip:103@pbx.test>"))
    subscription.accept()
    subscription.answered(481)
    subscription.progress(180)
    subscription.end(200)
    assert len(heard.notifies) == 1


def test_who_does_not_subscribe_is_told_so_and_hears_nothing() -> None:
    subscription, heard = referral(refer("<sip:103@pbx.test>", ("Refer-Sub", "false")))
    subscription.accept()
    subscription.progress(180)
    subscription.end(200)
    assert heard.answers == [(202, (("Refer-Sub", "false"),))]
    assert heard.notifies == []
