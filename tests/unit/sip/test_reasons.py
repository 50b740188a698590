from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2bua.sip.fields import Reason
from b2bua.sip.headers import Headers
from b2bua.sip.message import Response
from b2bua.sip.reasons import COMPLETED_ELSEWHERE, MAX_TEXT, fields, in_words, q850, reasons_of, stated
from b2bua.sip.status import CAUSES, Q850


def said(*values: str) -> Response:
    return Response(486, "Busy Here", Headers([("Reason", value) for value in values]))


@pytest.mark.parametrize(("values", "passed"), [
    (('Q.850;cause=17;text="User busy"',), ['Q.850;cause=17;text="User busy"']),
    (('q.850 ;cause=16',), ["Q.850;cause=16"]),
    (('SIP;cause=200;text="Call completed elsewhere"', "Q.850;cause=26"),
     ['SIP;cause=200;text="Call completed elsewhere"', "Q.850;cause=26"]),
    (("SIP;cause=486, Q.850;cause=17",), ["SIP;cause=486", "Q.850;cause=17"]),
    (("Q.850;cause=17", "Q.850;cause=31"), ["Q.850;cause=17"]),                  # one of each protocol
    (("Q.850;cause=17;location=LN",), ["Q.850;cause=17"]),
    (("X.int;reasoncode=0x0001", "Preemption;cause=1"), []),
    (("Q.850", "Q.850;cause=", "Q.850;cause=x", "Q.850;cause=0", "Q.850;cause=128", "SIP;cause=99", "SIP;cause=700"),
     []),
    (("Q.850;cause=17;cause=18", "Q.850;cause=31"), ["Q.850;cause=31"]),
    ((",".join(["Q.850;cause=17"] * 500),), []),
    ((), []),
])
def test_what_is_passed_on(values: tuple[str, ...], passed: list[str]) -> None:
    assert [value for _, value in fields(reasons_of(said(*values)))] == passed


@given(st.text(max_size=3 * MAX_TEXT))
def test_no_text_of_a_peer_gets_out_of_its_field(text: str) -> None:
    for reason in reasons_of(said(str(Reason("Q.850", 17, text)))):
        ((name, value),) = fields((reason,))
        assert (name, value.isprintable()) == ("Reason", True)
        assert len(reason.text) <= MAX_TEXT
        assert reasons_of(said(value)) == (reason,)
        assert in_words((reason,)).isprintable()


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=300))
def test_whatever_stands_there_is_read_without_harm(text: str) -> None:
    reasons_of(said(text))
    assert stated(said(text)).isprintable()


@pytest.mark.parametrize(("values", "cause"), [
    (("Q.850;cause=17", "SIP;cause=603"), 17),
    (("SIP;cause=486",), 17),
    (("SIP;cause=200",), 16),
    (("SIP;cause=487",), 16),
    (("SIP;cause=199",), None),
    ((), None),
])
def test_the_cause_of_the_telephone_network(values: tuple[str, ...], cause: int | None) -> None:
    assert q850(reasons_of(said(*values))) == cause


@pytest.mark.parametrize(("value", "words"), [
    ("Q.850;cause=17", "Q.850 17, user busy"),
    ('Q.850;cause=17;text="User Busy"', "Q.850 17, user busy"),
    ('Q.850;cause=41;text="try later"', 'Q.850 41, temporary failure ("try later")'),
    ("Q.850;cause=126", "Q.850 126, unknown cause"),
    (COMPLETED_ELSEWHERE[0][1], 'SIP 200, OK ("Call completed elsewhere")'),
])
def test_in_words(value: str, words: str) -> None:
    assert in_words(reasons_of(said(value))) == words


def test_every_cause_that_we_name_has_words() -> None:
    assert set(Q850.values()) <= CAUSES.keys()
