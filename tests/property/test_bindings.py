"""Random REGISTER sequences against a model of RFC 3261 §10.3 that is a dictionary."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.sip.bindings import MAX_REORDERING, BindingPolicy, Bindings, Registered
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
