"""Whatever a registrar answers, our registration goes on: it waits for an answer, or for a time to come."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.sip.auth import DigestClient
from b2bua.sip.headers import Headers
from b2bua.sip.message import Response
from b2bua.sip.registration import MAX_ROUND, Account, Failed, Registered, Registration, SendRegister, State
from b2bua.sip.uri import Uri

HEADERS = [
    ("WWW-Authenticate", 'Digest realm="r", nonce="1", qop="auth"'),
    ("WWW-Authenticate", 'Digest realm="r", nonce="2", stale=true'),
    ("Proxy-Authenticate", 'Digest realm="p", nonce="3", algorithm=SHA-256'),
    ("WWW-Authenticate", "nonsense"),
    ("Min-Expires", "7200"),
    ("Min-Expires", "-"),
    ("Contact", "<sip:t@192.0.2.1>;expires=30"),
    ("Contact", "<sip:elsewhere.test>"),
    ("Contact", "<<"),
    ("Expires", "60"),
    ("Retry-After", "5"),
]
answers = st.tuples(
    st.sampled_from([200, 202, 301, 302, 400, 401, 403, 407, 408, 423, 500, 503, 600]),
    st.lists(st.sampled_from(HEADERS), max_size=3),
)


@settings(max_examples=200, deadline=None)
@given(script=st.lists(answers, max_size=40), seed=st.integers(0, 1000), stop_after=st.integers(0, 60))
def test_it_always_waits_for_exactly_one_thing(
    script: list[tuple[int, list[tuple[str, str]]]], seed: int, stop_after: int
) -> None:
    account = Account(Uri.parse("sip:o.test"), Uri.parse("sip:me@o.test"))
    machine = Registration(account, Uri.sip("t", "192.0.2.1"), DigestClient("me", "pw", Random(seed)), Random(seed))
    now, in_a_row, cseq = 0.0, 0, 0
    effects = machine.start(now)
    for place, (status, headers) in enumerate(script):
        if place == stop_after:
            effects = machine.stop(now) or effects
        if machine.state is State.IDLE:
            assert machine.next_timeout is None
            return
        if machine.next_timeout is None:
            assert isinstance(effects[-1], SendRegister)
            assert effects[-1].cseq == cseq + 1
            cseq = effects[-1].cseq
            in_a_row += 1
            assert in_a_row <= MAX_ROUND + 2
            effects = machine.response(Response(status, None, Headers(headers)), now)
        else:
            assert isinstance(effects[-1], Registered | Failed)
            assert now < machine.next_timeout <= now + 90_000
            now, in_a_row = machine.next_timeout, 0
            effects = machine.handle_timeout(now)
