from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from b2bua.calls.redirection import MAX_CONTACTS, contacts_of, place_of
from b2bua.cdr import ClientId
from b2bua.directory import Trunk
from b2bua.routing.plan import DialTrunk
from b2bua.sip.effects import Address, Flow, Transport
from b2bua.sip.headers import Headers
from b2bua.sip.message import Response
from b2bua.sip.uri import Uri

NETWORK = ip_network("10.0.1.0/24")
TRUNK = Trunk(ClientId("acme"), "operator", "op.test", networks=(NETWORK,), domain="voice.op.test")
STEP = DialTrunk(TRUNK, "+79265554433", "", 30.0, "", outside="+79265554433")
FLOW = Flow(Transport.UDP, Address("10.0.0.1", 5060), Address("198.51.100.1", 5070))
HOSTS = st.sampled_from([
    "op.test", "OP.TEST", "voice.op.test", "evil.op.test", "op.test.evil", "10.0.1.9", "10.0.2.9", "198.51.100.1",
    "203.0.113.9", "2001:db8::1", "localhost", "127.0.0.1",
])  # fmt: skip
CONTACTS = st.builds(
    Uri, st.sampled_from(["sip", "sips", "tel", "http"]), st.text("0123456789+;a=\r\n%@<", min_size=1, max_size=12),
    HOSTS,
    st.none() | st.integers(1, 65535),
    st.dictionaries(st.sampled_from(["maddr", "transport", "ttl", "method", "user"]), HOSTS, max_size=3),
    st.dictionaries(st.sampled_from(["Route", "Subject"]), HOSTS, max_size=2),
    st.sampled_from(["", "pw"]),
)  # fmt: skip


@given(CONTACTS)
def test_no_contact_leads_a_call_away_from_its_operator(contact: Uri) -> None:
    place = place_of(contact, STEP, FLOW, {FLOW.remote.host})
    if place is None:
        return
    hosts = [place.uri.host.lower()] if place.at is None else [place.uri.host.lower(), place.at.host]
    assert all(host in (TRUNK.host, TRUNK.domain, FLOW.remote.host) or ip_address(host) in NETWORK for host in hosts)
    assert place.uri.scheme == "sip"
    assert not place.uri.headers
    assert not place.uri.password
    assert place.uri.params.keys() <= {"user"}
    assert str(place).isprintable()
    assert Uri.parse(str(place.uri)).user == place.uri.user


@given(st.lists(st.sampled_from(["0.1", "0.5", "1", "0.123", "1.0"]), max_size=20))
def test_contacts_stand_in_the_order_of_q_and_then_as_they_came(qs: list[str]) -> None:
    fields = [("Contact", f"<sip:{n}@op.test>;q={q}") for n, q in enumerate(qs)]
    users = [int(uri.user) for uri in contacts_of(Response(302, "Moved", Headers(fields)))]
    assert users == sorted(range(min(len(qs), MAX_CONTACTS)), key=lambda n: (-float(qs[n]), n))
