"""Who calls: whatever a trunk writes into its headers, the call comes in, and what it tells stays short."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.calls.diversion import MAX_DIVERSIONS, MAX_READ, MAX_TIMES, MAX_TOLD, history_of
from b2bua.calls.identity import read_caller, shown_to
from b2bua.cdr import ClientId
from b2bua.directory import Trunk
from b2bua.sip.headers import Headers
from b2bua.sip.message import Request
from b2bua.sip.parser import parse
from b2bua.sip.uri import Uri
from b2bua.trunk_profiles import PROFILES, Identity

NAMES = st.sampled_from([
    "P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-ID", "Privacy", "Diversion", "History-Info",
])
NUMBERS = st.sampled_from(["+79161234567", "89161234567", "anonymous", "100", "", "a b", "7916;cpc=x", "%00", "+"])
ADDRESSES = st.builds(
    "{}<{}:{}@{}>{}".format,
    st.sampled_from(["", '"Anna" ', "Анна "]), st.sampled_from(["sip", "tel", "sips", "http"]), NUMBERS,
    st.sampled_from(["op.test", "[::1]", ""]),
    st.sampled_from(["", ";privacy=full", ";reason=unconditional", ';reason="user-busy"', ";index=1.1", ";index=1",
                     ";index=1.1.1;mp=1", ";index=.", ";counter=3", ";counter=" + "9" * 99, ";counter=²"]),
)
LINE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=200)
FIELDS = st.lists(st.tuples(NAMES, st.lists(ADDRESSES, max_size=6).map(", ".join) | LINE), max_size=8)
TRUNKS = st.sampled_from([
    Trunk(ClientId("acme"), "op", "192.0.2.1", profile=profile, user=user)
    for profile in PROFILES for user in ("", "account")
])


@given(FIELDS, TRUNKS)
@settings(max_examples=500, deadline=None)
def test_no_header_of_a_trunk_stops_its_call(fields: list[tuple[str, str]], trunk: Trunk) -> None:
    invite = Request("INVITE", Uri.sip("1", "192.0.2.9"), Headers([("From", "<sip:84951112233@op.test>"), *fields]))
    caller = read_caller(invite, trunk)
    history = history_of(invite, trunk.country)
    assert 0 <= history.times <= MAX_READ
    assert len(history.numbers) <= 2 * MAX_READ
    assert (history.too_often is not None) == (history.times >= MAX_TIMES)
    assert len(caller.notes) <= 1 + MAX_DIVERSIONS
    assert all(len(note) < 5 * MAX_TOLD and note.isprintable() for note in caller.notes)


@given(NUMBERS, TRUNKS, st.booleans())
def test_what_is_shown_can_be_sent_and_a_withheld_number_is_in_the_identity_alone(
    number: str, trunk: Trunk, hidden: bool
) -> None:
    shown = shown_to(trunk, number, hidden=hidden)
    fields = [("Via", "SIP/2.0/UDP 192.0.2.9"), ("From", str(shown.from_.with_tag("t"))), ("To", "<sip:1@op.test>"),
              ("Call-ID", "c"), ("CSeq", "1 INVITE"), *shown.headers]
    sent = parse(bytes(Request("INVITE", Uri.sip("1", "192.0.2.1"), Headers(fields))))
    assert isinstance(sent, Request)
    if hidden:
        assert sent.privacy == {"id"}
        assert sent.from_.uri.user == "anonymous"
        assert len(shown.headers) == 1 + (trunk.rules.identity is not Identity.NONE and bool(number))
    else:
        assert sent.privacy == frozenset()
