"""No order, delay or repetition of requests makes the server take one nonce count twice."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.sip.auth import (
    Algorithm,
    DigestClient,
    DigestPolicy,
    DigestServer,
    NonceCounts,
    Unanswerable,
    Verdict,
    ha1,
    parse_credentials,
)
from b2bua.sip.headers import Headers
from b2bua.sip.message import Request, Response
from b2bua.sip.uri import Uri

KNOWN = {algorithm.value: ha1(algorithm.value, "101", "r", "pw") for algorithm in (Algorithm.MD5, Algorithm.SHA256)}
URI = Uri.parse("sip:pbx.test")


def signed_requests(server: DigestServer, count: int, nonces: int) -> list[Request]:
    requests = []
    for _ in range(nonces):
        client = DigestClient("101", "pw", Random(1))
        bare = Request("REGISTER", URI, Headers())
        headers = client.answer(Response(401, None, Headers(server.challenges("h", 0.0))), bare)
        assert not isinstance(headers, Unanswerable)
        requests.append(Request("REGISTER", URI, Headers(headers)))
        requests += [Request("REGISTER", URI, Headers(client.sign("REGISTER", str(URI)))) for _ in range(count - 1)]
    return requests


@settings(max_examples=60, deadline=None)
@given(
    order=st.lists(st.integers(0, 19), max_size=60),
    pauses=st.lists(st.floats(0.0, 40.0), min_size=60, max_size=60),
)
def test_a_nonce_replayed_with_the_same_count_is_refused(order: list[int], pauses: list[float]) -> None:
    server = DigestServer(DigestPolicy("r"), b"key")
    requests = signed_requests(server, count=5, nonces=4)
    now, accepted = 0.0, []
    for at, pause in zip(order, pauses, strict=False):
        now += pause
        credentials = server.credentials(requests[at])
        assert credentials is not None
        verdict = server.verify(credentials, requests[at], KNOWN, "h", now)
        assert verdict is not Verdict.WRONG
        if verdict is Verdict.ACCEPTED:
            assert now <= 300.0
            accepted.append((credentials.nonce, credentials.nc))
        elif now <= 300.0:
            assert (credentials.nonce, credentials.nc) in accepted
    assert len(accepted) == len(set(accepted))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 80), st.floats(0.0, 3.0)), max_size=150))
def test_a_full_memory_never_takes_a_count_twice(uses: list[tuple[int, int, float]]) -> None:
    counts = NonceCounts(life=50.0, limit=5)
    now, taken = 0.0, set()
    for nonce, count, pause in uses:
        now += pause
        if counts.use(f"n{nonce}", float(nonce), count, now):
            assert (nonce, count) not in taken
            assert count >= 1
            taken.add((nonce, count))
        assert len(counts) <= 5


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_is_none(text: str) -> None:
    parse_credentials(text)
    parse_credentials(f"Digest {text}")
    parse_credentials(f'Digest username="{text}", realm="r", nonce="n", uri="u", response="x"')


@settings(max_examples=100, deadline=None)
@given(login=st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=20),
       password=st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=20))
def test_whatever_name_and_password_both_sides_agree(login: str, password: str) -> None:
    server = DigestServer(DigestPolicy("r", algorithms=("SHA-256",)), b"key")
    bare = Request("REGISTER", URI, Headers())
    client = DigestClient(login, password, Random(1))
    headers = client.answer(Response(401, None, Headers(server.challenges("h", 0.0))), bare)
    assert not isinstance(headers, Unanswerable)
    request = Request("REGISTER", URI, Headers(headers))
    credentials = server.credentials(request)
    assert credentials is not None
    assert credentials.username == login
    assert server.verify(credentials, request, {"SHA-256": ha1("SHA-256", login, "r", password)}, "h", 0.0) is (
        Verdict.ACCEPTED
    )
