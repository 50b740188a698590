"""Random REGISTER sequences against a model of RFC 3261 §10.3 that is a dictionary; what always holds of outbound."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.sip.bindings import MAX_REORDERING, BindingPolicy, Bindings, Reachability, Registered
from b2bua.sip.effects import Address, Flow, Transport
from b2bua.sip.headers import Headers
from b2bua.sip.message import Request
from b2bua.sip.uri import Uri

FLOW = Flow(Transport.UDP, Address("192.0.2.1", 5060), Address("192.0.2.7", 5060))
POLICY = BindingPolicy(min_expires=10, max_expires=100, default_expires=50)
MOST = 3

Model = dict[str, tuple[float, str, int, float]]      # user -> expires at, Call-ID, CSeq, updated at

contact = st.tuples(st.sampled_from("abcde"), st.sampled_from([None, 0, 5, 10, 60, 1000]))
contacts = st.lists(contact, max_size=3, unique_by=lambda pair: pair[0])
steps = st.tuples(
    st.one_of(contacts, st.just("*")), st.sampled_from([None, 0, 30]), st.sampled_from("xy"), st.integers(1, 6),
    st.floats(0.0, 40.0),
)  # fmt: skip


def request(what: object, expires: int | None, call_id: str, cseq: int) -> Request:
    fields = [("Via", "SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1"), ("Call-ID", call_id), ("CSeq", f"{cseq} REGISTER")]
    if what == "*":
        fields.append(("Contact", "*"))
    else:
        assert isinstance(what, list)
        fields += [
            ("Contact", f"<sip:{user}@192.0.2.7>" + ("" if own is None else f";expires={own}")) for user, own in what
        ]
    if expires is not None:
        fields.append(("Expires", str(expires)))
    return Request("REGISTER", Uri.parse("sip:pbx.test"), Headers(fields))


def modelled(model: Model, what: object, expires: int | None, call_id: str, cseq: int, now: float) -> Model | None:
    """What the RFC makes of it; None when it is refused."""
    live = {user: binding for user, binding in model.items() if binding[0] > now}

    def late(user: str) -> bool:
        _, known_id, known_cseq, updated = live.get(user, (0.0, "", 0, 0.0))
        return known_id == call_id and cseq <= known_cseq and now - updated < MAX_REORDERING

    if what == "*":
        return None if expires != 0 or any(map(late, live)) else {}
    assert isinstance(what, list)
    new = dict(live)
    for user, own in what:
        seconds = own if own is not None else expires if expires is not None else 50
        if 0 < seconds < 10 or late(user):
            return None
        new.pop(user, None)
        if seconds:
            new[user] = (now + min(seconds, 100), call_id, cseq, now)
        if len(new) > MOST:
            return None
    return new


@settings(max_examples=100, deadline=None)
@given(st.lists(steps, max_size=15))
def test_bindings_are_what_the_model_says(sequence: list[tuple[object, int | None, str, int, float]]) -> None:
    bindings, model, now = Bindings(MOST), {}, 0.0
    for what, expires, call_id, cseq, pause in sequence:
        now += pause
        outcome = bindings.register(request(what, expires, call_id, cseq), FLOW, now, POLICY)
        expected = modelled(model, what, expires, call_id, cseq, now)
        assert isinstance(outcome, Registered) == (expected is not None)
        model = model if expected is None else expected
        live = {user: at for user, (at, *_) in model.items() if at > now}
        assert {binding.uri.user: binding.expires_at for binding in bindings.contacts(now)} == live
        assert len(live) <= MOST


phone = st.tuples(
    st.sampled_from("abc"),                                 # user part of the Contact
    st.sampled_from(["", "1", "2"]),                        # instance
    st.sampled_from(["", "1", "2"]),                        # reg-id
    st.booleans(),                                          # Supported: outbound
    st.sampled_from([0, 1, 2, 3]),                          # connection; 0: UDP
    st.sampled_from([0, 60]),                               # expires
)
events = st.one_of(phone, st.integers(1, 3), st.sampled_from(Reachability))


def flow_of(connection: int) -> Flow:
    return FLOW if not connection else FLOW._replace(transport=Transport.TCP, connection=connection)


@settings(max_examples=200, deadline=None)
@given(st.lists(events, max_size=25))
def test_a_phone_has_one_binding_a_flow_and_none_by_a_connection_that_is_gone(
    sequence: list[tuple[str, str, str, bool, int, int] | int | Reachability],
) -> None:
    bindings = Bindings(MOST)
    gone: set[Flow] = set()
    for number, event in enumerate(sequence):
        now = 40.0 * number
        match event:
            case int(connection):                                   # it ends
                bindings.drop_connection(flow_of(connection))
                gone.add(flow_of(connection))
            case Reachability():
                for binding in bindings.contacts(now)[:1]:
                    bindings.mark(binding, event)
            case (user, instance, reg_id, outbound, connection, expires):
                params = f';+sip.instance="<urn:uuid:{instance}>"' if instance else ""
                params += f";reg-id={reg_id}" if reg_id else ""
                gone.discard(flow_of(connection))
                asked = Request("REGISTER", Uri.parse("sip:pbx.test"), Headers([
                    ("Via", "SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1"), ("Call-ID", str(number)),
                    ("CSeq", "1 REGISTER"), ("Contact", f"<sip:{user}@192.0.2.7>;expires={expires}{params}"),
                    *([("Supported", "outbound")] if outbound else []),
                ]))     # fmt: skip
                outcome = bindings.register(asked, flow_of(connection), now, POLICY)
                if isinstance(outcome, Registered):
                    agreed = ("Require", "outbound") in outcome.headers
                    assert agreed == bool(instance and reg_id and outbound and connection and expires)
        live = bindings.contacts(now)
        assert len(live) <= MOST
        keys = [(one.instance, one.reg_id) for one in live if one.instance]
        assert len(set(keys)) == len(keys)
        assert not any(one.outbound and one.flow in gone for one in live)
        assert all(one.reg_id == "" or one.instance for one in live)
