"""Digest authentication against the published and captured examples, and both of our sides against each other."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from b2bua.sip.auth import (
    Algorithm,
    Credentials,
    DigestClient,
    DigestPolicy,
    DigestServer,
    NonceCounts,
    Unanswerable,
    Verdict,
    expected_response,
    ha1,
    parse_credentials,
)
from b2bua.sip.headers import Headers
from b2bua.sip.message import Request, Response
from b2bua.sip.uri import Uri

CORPUS = Path(__file__).parents[2] / "corpora" / "digest"
VECTORS = json.loads((CORPUS / "vectors.json").read_text("utf-8"))["vectors"]
REAL = json.loads((CORPUS / "real-clients.json").read_text("utf-8"))["vectors"]

SOURCE = "192.0.2.7"
REALM = "smartswitch"
PASSWORD = "S3cret"


def stored(login: str = "1001", password: str = PASSWORD) -> dict[str, str]:
    return {name: ha1(name, login, REALM, password) for name in ("MD5", "SHA-256", "SHA-512-256")}


def server(**policy: Any) -> DigestServer:
    return DigestServer(DigestPolicy(REALM, **policy), b"k" * 32)


def client(login: str = "1001", password: str = PASSWORD) -> DigestClient:
    return DigestClient(login, password, Random(1))


def request(method: str = "REGISTER", uri: str = "sip:pbx.test", headers: Any = (), body: bytes = b"") -> Request:
    return Request(method, Uri.parse(uri), Headers(headers), body)


def challenged(digest: DigestServer, now: float = 0.0, *, stale: bool = False) -> Response:
    return Response(401, None, Headers(digest.challenges(SOURCE, now, stale=stale)))


def answered(digest: DigestServer, phone: DigestClient, now: float = 0.0, **what: Any) -> Request:
    headers = phone.answer(challenged(digest, now), request(**what))
    assert not isinstance(headers, Unanswerable)
    return request(headers=headers, **what)


def verdict(digest: DigestServer, signed: Request, now: float = 0.0, source: str = SOURCE, **known: Any) -> Verdict:
    credentials = digest.credentials(signed)
    assert credentials is not None
    return digest.verify(credentials, signed, known.get("ha1s", stored()), source, now)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_a_published_digest_comes_out_as_published(vector: dict[str, str]) -> None:
    algorithm = Algorithm(vector["algorithm"])
    credentials = Credentials(
        vector["username"], vector["realm"], vector["nonce"], vector["uri"], "", algorithm, vector.get("qop"),
        vector.get("nc", ""), vector.get("cnonce", ""),
    )  # fmt: skip
    secret = ha1(algorithm.value.removesuffix("-sess"), vector["username"], vector["realm"], vector["password"])
    body = vector.get("body", "").encode()
    assert expected_response(credentials, algorithm, secret, vector["method"], body) == vector["response"]


@pytest.mark.parametrize("vector", REAL, ids=lambda vector: vector["file"])
def test_what_a_real_client_sent_is_read_and_right(vector: dict[str, str]) -> None:
    credentials = parse_credentials(f"Digest {vector['header']}")
    assert credentials is not None
    assert credentials.algorithm is Algorithm.MD5
    secret = ha1("MD5", credentials.username, credentials.realm, vector["password"])
    assert expected_response(credentials, Algorithm.MD5, secret, vector["method"], b"") == credentials.response


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256", "SHA-512-256"])
@pytest.mark.parametrize("qop", [("auth",), ("auth-int",), ("auth", "auth-int")])
def test_our_client_satisfies_our_server(algorithm: str, qop: tuple[str, ...]) -> None:
    digest = server(algorithms=(algorithm,), qop=qop)
    assert verdict(digest, answered(digest, client(), method="INVITE", uri="sip:101@pbx.test", body=b"v=0")) is (
        Verdict.ACCEPTED
    )


def test_challenges_come_in_the_order_of_the_policy_and_the_strongest_is_answered() -> None:
    digest = server(algorithms=("MD5", "SHA-256"))
    offered = [value for _, value in digest.challenges(SOURCE, 0.0)]
    assert ["algorithm=MD5" in offered[0], "algorithm=SHA-256" in offered[1]] == [True, True]
    signed = answered(digest, client())
    assert digest.credentials(signed).algorithm is Algorithm.SHA256  # type: ignore[union-attr]
    assert verdict(digest, signed) is Verdict.ACCEPTED


def test_an_algorithm_that_was_not_offered_is_wrong() -> None:
    weak = answered(server(algorithms=("MD5",)), client())
    assert verdict(server(algorithms=("SHA-256",)), weak) is Verdict.WRONG


@pytest.mark.parametrize(
    ("phone", "known"),
    [
        (client(password="guess"), stored()),
        (client(login="9999"), {}),
        (client(), stored(login="1002")),
    ],
    ids=["password", "login", "somebody else's login"],
)
def test_a_wrong_password_and_an_unknown_login_are_both_just_wrong(phone: DigestClient, known: dict[str, str]) -> None:
    digest = server()
    assert verdict(digest, answered(digest, phone), ha1s=known) is Verdict.WRONG


def test_the_same_request_twice_is_refused_by_its_nonce_count() -> None:
    digest = server()
    signed = answered(digest, client())
    assert [verdict(digest, signed), verdict(digest, signed)] == [Verdict.ACCEPTED, Verdict.STALE]


def test_a_nonce_serves_many_requests_with_growing_counts() -> None:
    digest, phone = server(), client()
    assert verdict(digest, answered(digest, phone)) is Verdict.ACCEPTED
    for _ in range(3):
        again = request(headers=phone.sign("REGISTER", "sip:pbx.test"))
        assert verdict(digest, again) is Verdict.ACCEPTED


def test_an_old_nonce_is_stale_whatever_the_password() -> None:
    digest = server(nonce_life=300.0)
    assert verdict(digest, answered(digest, client()), now=300.1) is Verdict.STALE
    assert verdict(digest, answered(digest, client(password="guess")), now=300.1) is Verdict.STALE


def test_a_nonce_of_another_process_or_another_source_is_stale() -> None:
    before_the_restart = DigestServer(DigestPolicy(REALM), b"another key")
    assert verdict(server(), answered(before_the_restart, client())) is Verdict.STALE
    digest = server()
    assert verdict(digest, answered(digest, client()), source="198.51.100.9") is Verdict.STALE


def test_two_challenges_of_the_same_moment_have_two_nonces() -> None:
    digest = server()
    assert digest.challenges(SOURCE, 5.0) != digest.challenges(SOURCE, 5.0)


def without_qop(digest: DigestServer, method: str = "REGISTER", signs: str = "sip:pbx.test") -> tuple[str, str]:
    """In the manner of RFC 2069."""
    nonce = parse_nonce(challenged(digest))
    bare = Credentials("1001", REALM, nonce, signs, "", Algorithm.MD5)
    response = expected_response(bare, Algorithm.MD5, stored()["MD5"], method, b"")
    value = f'Digest username="1001",realm="{REALM}",nonce="{nonce}",uri="{signs}",response="{response}"'
    return "Authorization", value


def test_an_answer_without_qop_is_taken_once_a_nonce_and_only_where_the_policy_says_so() -> None:
    lenient, strict = server(without_qop=True), server(without_qop=False)
    signed = request(headers=[without_qop(lenient)])
    assert [verdict(lenient, signed), verdict(lenient, signed)] == [Verdict.ACCEPTED, Verdict.STALE]
    assert verdict(strict, request(headers=[without_qop(strict)])) is Verdict.WRONG


@pytest.mark.parametrize(
    ("signs", "expected"),
    [
        ("sip:pbx.test;transport=UDP", Verdict.ACCEPTED),      # pyVoIP, of every call
        ("sip:101@pbx.test", Verdict.ACCEPTED),
        ("sip:102@pbx.test", Verdict.WRONG),
    ],
)
def test_an_answer_without_qop_may_name_nobody_but_nobody_else(signs: str, expected: Verdict) -> None:
    digest = server(without_qop=True)
    call = request("INVITE", "sip:101@pbx.test", [without_qop(digest, "INVITE", signs)])
    assert verdict(digest, call) is expected


def test_an_answer_with_qop_names_whom_it_calls() -> None:
    digest = server(without_qop=True)
    signed = answered(digest, client(), method="INVITE", uri="sip:pbx.test")
    call = Request("INVITE", Uri.parse("sip:101@pbx.test"), signed.headers)
    assert verdict(digest, call) is Verdict.WRONG


def parse_nonce(response: Response) -> str:
    value = response.headers.get("WWW-Authenticate")
    assert value is not None
    return value.partition('nonce="')[2].partition('"')[0]


def test_credentials_made_for_one_number_do_not_call_another() -> None:
    digest = server()
    signed = answered(digest, client(), method="INVITE", uri="sip:101@pbx.test")
    stolen = Request("INVITE", Uri.parse("sip:+9001234567@pbx.test"), signed.headers)
    assert verdict(digest, stolen) is Verdict.WRONG


def test_a_rewritten_host_or_parameter_of_the_uri_does_no_harm() -> None:
    digest = server()
    signed = answered(digest, client(), method="INVITE", uri="sip:101@pbx.test;transport=UDP")
    as_sent = Request("INVITE", Uri.parse("sip:101@10.0.0.1"), signed.headers)
    assert verdict(digest, as_sent) is Verdict.ACCEPTED


@pytest.mark.parametrize(
    "value",
    [
        "Basic dXNlcjpwYXNz",
        "Digest",
        'Digest username="1001", realm="smartswitch"',
        'Digest username="1001", username="1002", realm="smartswitch", nonce="n", uri="u", response="r"',
        'Digest username="1001 realm=smartswitch',
        'Digest username="1001", realm="another", nonce="n", uri="u", response="r"',
    ],
)
def test_what_is_no_answer_to_us_counts_as_none(value: str) -> None:
    assert server().credentials(request(headers=[("Authorization", value)])) is None


@pytest.mark.parametrize("nc", ["1", "0000000g", "00000000", "-0000001", "000000001", ""])
def test_a_malformed_nonce_count_is_not_accepted(nc: str) -> None:
    digest = server()
    signed = answered(digest, client()).headers.get("Authorization")
    assert signed is not None
    broken = request(headers=[("Authorization", signed.replace("nc=00000001", f"nc={nc}"))])
    assert verdict(digest, broken) is not Verdict.ACCEPTED


def test_a_full_memory_of_nonces_forgets_the_oldest_and_keeps_refusing_them() -> None:
    counts = NonceCounts(life=300.0, limit=10)
    for second in range(30):
        assert counts.use(f"n{second}", float(second), 1, 29.0)
        assert len(counts) <= 10
    assert not any(counts.use(f"n{second}", float(second), 1, 30.0) for second in range(30))


def test_counts_may_overtake_each_other_within_the_window() -> None:
    counts = NonceCounts(life=300.0)
    assert [counts.use("n", 0.0, count, 1.0) for count in (3, 1, 2, 2, 100, 36, 99, 37, 37)] == [
        True, True, True, False, True, False, True, True, False,
    ]  # fmt: skip


# ---- the client


def test_a_refused_password_is_not_tried_again_and_again() -> None:
    digest, phone = server(), client(password="guess")
    signed = answered(digest, phone)
    assert phone.answer(challenged(digest), signed) == Unanswerable("credentials refused")


def test_a_stale_nonce_is_answered_with_the_new_one() -> None:
    digest, phone = server(), client()
    signed = answered(digest, phone, now=0.0)
    headers = phone.answer(challenged(digest, 400.0, stale=True), signed)
    assert not isinstance(headers, Unanswerable)
    assert verdict(digest, request(headers=headers), now=400.0) is Verdict.ACCEPTED


def test_credentials_signed_ahead_under_an_old_nonce_do_not_count_as_refused() -> None:
    phone = client()
    old, new = server(), DigestServer(DigestPolicy(REALM), b"new process")
    answered(old, phone)
    ahead = request(headers=phone.sign("REGISTER", "sip:pbx.test"))
    headers = phone.answer(challenged(new), ahead)
    assert not isinstance(headers, Unanswerable)
    assert verdict(new, request(headers=headers)) is Verdict.ACCEPTED


def test_all_realms_on_the_way_get_their_credentials() -> None:
    phone = client()
    proxy = Response(407, None, Headers([
        ("Proxy-Authenticate", 'Digest realm="a", nonce="1", qop="auth"'),
        ("Proxy-Authenticate", 'Digest realm="b", nonce="2"'),
    ]))  # fmt: skip
    first = phone.answer(proxy, request())
    assert not isinstance(first, Unanswerable)
    registrar = Response(401, None, Headers([("WWW-Authenticate", 'Digest realm="c", nonce="3"')]))
    second = phone.answer(registrar, request())
    assert not isinstance(second, Unanswerable)
    assert [name for name, _ in second] == ["Proxy-Authorization", "Proxy-Authorization", "Authorization"]


@pytest.mark.parametrize(
    "challenge",
    [
        'Digest realm="a", nonce="1", algorithm=AKAv1-MD5',
        'Digest realm="a", nonce="1", qop="token"',
        "Bearer x",
        "Digest",
    ],
)
def test_a_challenge_beyond_us_is_unanswerable(challenge: str) -> None:
    response = Response(401, None, Headers([("WWW-Authenticate", challenge)]))
    assert isinstance(client().answer(response, request()), Unanswerable)


def test_an_unknown_algorithm_is_passed_over_for_a_known_one() -> None:
    response = Response(401, None, Headers([
        ("WWW-Authenticate", 'Digest realm="a", nonce="1", algorithm=SHA-999, qop="auth"'),
        ("WWW-Authenticate", 'Digest realm="a", nonce="1", algorithm=MD5, qop="auth"'),
    ]))  # fmt: skip
    headers = client().answer(response, request())
    assert not isinstance(headers, Unanswerable)
    assert "algorithm=MD5" in headers[0][1]


def test_a_quote_in_realm_or_name_survives_the_way() -> None:
    policy = DigestPolicy('Acme, "PBX" 1')
    digest = DigestServer(policy, b"k")
    phone = client(login='o"neil\\')
    headers = phone.answer(challenged(digest), request())
    assert not isinstance(headers, Unanswerable)
    known = {"MD5": ha1("MD5", 'o"neil\\', policy.realm, PASSWORD)}
    assert verdict(digest, request(headers=headers), ha1s=known) is Verdict.ACCEPTED


def test_the_password_is_not_in_what_gets_logged() -> None:
    assert PASSWORD not in repr(client())
