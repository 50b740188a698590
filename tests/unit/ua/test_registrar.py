"""The registrar as phones and strangers meet it."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from b2bua.cdr import ClientId
from b2bua.directory import Directory, Extension
from b2bua.sip import throttle
from b2bua.sip.auth import DigestClient, DigestPolicy, DigestServer, Unanswerable, ha1
from b2bua.sip.bindings import Reachability
from b2bua.sip.effects import Address, Flow, Transport
from b2bua.sip.headers import Headers
from b2bua.sip.message import Request, Response
from b2bua.sip.throttle import Silence
from b2bua.sip.uri import Uri
from b2bua.ua import registrar as registrar_module
from b2bua.ua.registrar import Challenge, Registrar, Reply, StoredBinding

FIRM = ClientId("firm")
HERE = Address("192.0.2.1", 5060)
PHONE = Flow(Transport.UDP, HERE, Address("192.0.2.7", 5060))
REALM = "smartswitch"
DIGEST = DigestServer(DigestPolicy(REALM), b"key")


def extension(number: str, login: str = "", client: str = "firm") -> Extension:
    login = login or f"{client}-{number}"
    return Extension(ClientId(client), number, login, {"MD5": ha1("MD5", login, REALM, f"pw-{login}")})


OFFICE = Directory(extensions=(extension("101"), extension("102"), extension("101", client="other")))


def registrar(directory: Directory = OFFICE) -> Registrar:
    return Registrar(directory, DIGEST)


class Phone:
    """Sends REGISTER as phones do: bare, then with the answer to the challenge."""

    def __init__(
        self, login: str = "firm-101", password: str = "", flow: Flow = PHONE, user: str = "101", contact: str = ""
    ) -> None:
        self.digest = DigestClient(login, password or f"pw-{login}", Random(1))
        self.flow = flow
        self.user = user
        self.contact = contact or f"<sip:{user}@{flow.remote.host}:{flow.remote.port}>"
        self.cseq = 0

    def request(self, *headers: tuple[str, str], method: str = "REGISTER", uri: str = "sip:pbx.test") -> Request:
        self.cseq += 1
        address = self.flow.remote
        fields = [
            ("Via", f"SIP/2.0/UDP {address.host}:{address.port};branch=z9hG4bK{self.cseq};rport"),
            ("From", f"<sip:{self.user}@pbx.test>;tag=1"),
            ("To", f"<sip:{self.user}@pbx.test>"),
            ("Call-ID", f"{self.user}@{address.host}"),
            ("CSeq", f"{self.cseq} {method}"),
            ("Contact", self.contact),
            ("User-Agent", "Test phone"),
            *headers,
        ]
        return Request(method, Uri.parse(uri), Headers(fields))

    def register(self, at: Registrar, now: float = 0.0, *headers: tuple[str, str]) -> Response:
        bare = self.request(*headers)
        first = at.register(bare, self.flow, now, "tag")
        assert isinstance(first, Reply)
        signed = self.digest.answer(first.response, bare)
        assert not isinstance(signed, Unanswerable)
        second = at.register(self.request(*headers, *signed), self.flow, now, "tag")
        assert isinstance(second, Reply)
        return second.response


def test_a_phone_registers_and_is_found() -> None:
    office = registrar()
    response = Phone().register(office)
    assert (response.status, response.to_tag) == (200, "tag")
    assert response.headers.get_all("Contact") == ["<sip:101@192.0.2.7:5060>;expires=3600"]
    (binding,) = office.lookup((FIRM, "101"), 10.0)
    assert (str(binding.uri), binding.reach) == ("sip:101@192.0.2.7:5060", PHONE)
    (shown,) = office.phones(10.0)
    assert (shown.client, shown.extension, shown.user_agent, shown.expires_in) == (FIRM, "101", "Test phone", 3590)
    assert office.lookup((FIRM, "102"), 10.0) == []
    assert office.lookup((ClientId("other"), "101"), 10.0) == []


@pytest.mark.parametrize("user", ["101", "firm-101"])
def test_to_may_name_the_number_or_the_login(user: str) -> None:
    assert Phone(user=user).register(registrar()).status == 200


@pytest.mark.parametrize("user", ["102", "other-101", "nobody"])
def test_nobody_registers_for_somebody_else(user: str) -> None:
    office = registrar()
    assert Phone(user=user).register(office).status == 403
    assert office.phones(0.0) == []


def test_what_the_rules_refuse_is_refused_with_its_headers() -> None:
    response = Phone().register(registrar(), 0.0, ("Expires", "5"))
    assert (response.status, response.headers.get("Min-Expires")) == (423, "60")


def test_the_first_answer_is_401_also_to_an_invite() -> None:
    phone, office = Phone(), registrar()
    challenge = office.authenticate(phone.request(method="INVITE", uri="sip:102@pbx.test"), PHONE, 0.0)
    assert isinstance(challenge, Challenge)
    assert (challenge.status, challenge.delay, challenge.headers[0][0]) == (401, 0.0, "WWW-Authenticate")


def test_an_authenticated_invite_tells_the_extension() -> None:
    phone, office = Phone(), registrar()
    bare = phone.request(method="INVITE", uri="sip:102@pbx.test")
    challenge = office.authenticate(bare, PHONE, 0.0)
    assert isinstance(challenge, Challenge)
    signed = phone.digest.answer(bare.response(401, headers=challenge.headers), bare)
    assert not isinstance(signed, Unanswerable)
    again = phone.request(*signed, method="INVITE", uri="sip:102@pbx.test")
    assert office.authenticate(again, PHONE, 0.0) == OFFICE.by_login["firm-101"]


def attempts(office: Registrar, phone: Phone, count: int, now: float = 0.0) -> list[float | None]:
    """The delays of so many answers to a wrong password; None is silence."""
    delays: list[float | None] = []
    for _ in range(count):
        challenge = DIGEST.challenges(phone.flow.remote.host, now)
        bare = phone.request()
        signed = DigestClient(phone.digest.username, phone.digest.password, Random(2)).answer(
            Response(401, None, Headers(challenge)), bare
        )
        assert not isinstance(signed, Unanswerable)
        reply = office.register(phone.request(*signed), phone.flow, now, "tag")
        delays.append(reply.delay if isinstance(reply, Reply) else None)
    return delays


@pytest.mark.parametrize("login", ["firm-101", "nobody"])
def test_a_wrong_password_is_answered_slower_and_slower_and_then_not_at_all(login: str) -> None:
    office = registrar()
    delays = attempts(office, Phone(login, "guess"), throttle.PAIR_FAILURES + 2)
    assert delays[:6] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert delays[-3:] == [None, None, None]
    assert office.register(Phone(login, "guess").request(), PHONE, 0.0, "tag") != Silence()     # other phones there
    assert office.counters.wrong == throttle.PAIR_FAILURES


def test_a_scanner_is_not_even_worth_a_transaction() -> None:
    office, scanner = registrar(), PHONE._replace(remote=Address("198.51.100.66", 5060))
    for number in range(throttle.SOURCE_FAILURES):
        attempts(office, Phone(f"user{number}", "guess", scanner), 1)
    assert office.screen(Phone(flow=scanner).request(), scanner, 0.0) == Silence()
    assert isinstance(office.screen(Phone().request(), PHONE, 0.0), Challenge)
    assert office.register(Phone(flow=scanner).request(), scanner, 0.0, "tag") == Silence()


def test_delayed_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registrar_module, "MAX_HELD", 3)
    office = registrar()
    phones = [Phone("firm-101", "guess", PHONE._replace(remote=Address(f"192.0.2.{n}", 5060))) for n in range(10, 15)]
    assert [attempts(office, phone, 1)[0] for phone in phones] == [0.5, 0.5, 0.5, None, None]
    assert attempts(office, phones[4], 1, now=5.0) == [1.0]


def test_a_malformed_authorization_is_challenged_like_none() -> None:
    office = registrar()
    reply = office.register(Phone().request(("Authorization", "Digest username=,,")), PHONE, 0.0, "tag")
    assert isinstance(reply, Reply)
    assert reply.response.status == 401


def test_a_new_directory_drops_who_is_gone_and_keeps_the_others() -> None:
    office = registrar()
    Phone().register(office)
    Phone("firm-102", user="102").register(office)
    office.use(Directory(extensions=(extension("102"), extension("103"))))
    assert [phone.extension for phone in office.phones(0.0)] == ["102"]
    assert Phone("firm-103", user="103").register(office).status == 200


def test_a_lost_connection_is_forgotten_only_with_its_phone() -> None:
    office = registrar()
    behind_nat = Flow(Transport.TCP, HERE, Address("203.0.113.9", 40000), 3)
    assert Phone(flow=behind_nat, contact="<sip:101@10.0.0.7;transport=tcp>").register(office).status == 200
    office.flow_gone(behind_nat._replace(connection=4))
    assert len(office.phones(0.0)) == 1
    office.flow_gone(behind_nat)
    assert office.phones(0.0) == []


def test_outbound_is_agreed_on_in_the_answer() -> None:
    flow = Flow(Transport.TCP, HERE, Address("192.0.2.7", 40000), 3)
    contact = '<sip:101@192.0.2.7;transport=tcp>;reg-id=1;+sip.instance="<urn:uuid:1>"'
    response = Phone(flow=flow, contact=contact).register(registrar(), 0.0, ("Supported", "outbound, path"))
    assert response.headers.get("Require") == "outbound"
    assert response.headers.get("Flow-Timer") == "120"
    assert response.headers.get("Supported") == "path, outbound"
    assert response.headers.get_all("Contact") == [contact.replace(">;reg-id=1", ">;expires=3600") + ";reg-id=1"]
    plain = Phone().register(registrar())
    assert (plain.headers.get("Require"), plain.headers.get("Flow-Timer")) == (None, None)


def test_one_phone_too_many_is_told_so() -> None:
    office = registrar()
    for number in range(5):
        assert Phone(contact=f"<sip:101@192.0.2.{number}>").register(office).status == 200
    response = Phone(contact="<sip:101@192.0.2.99>").register(office)
    assert (response.status, response.reason) == (403, "Too Many Contacts")
    assert "5 registered already" in (response.headers.get("Warning") or "")


def test_phones_that_do_not_answer_are_rung_where_none_does() -> None:
    office, key = registrar(), (FIRM, "101")
    for number in (1, 2):
        Phone(contact=f"<sip:101@192.0.2.{number}>").register(office, float(number))
    newest, oldest = office.to_ring(key, 5.0)
    office.mark(key, newest, Reachability.UNREACHABLE)
    assert [binding.uri for binding in office.to_ring(key, 5.0)] == [oldest.uri]
    office.mark(key, oldest, Reachability.LAGGED)
    assert [binding.uri for binding in office.to_ring(key, 5.0)] == [oldest.uri]
    office.mark(key, office.to_ring(key, 5.0)[0], Reachability.UNREACHABLE)
    assert [binding.uri for binding in office.to_ring(key, 5.0)] == [newest.uri, oldest.uri]
    assert {phone.reachability for phone in office.phones(5.0)} == {"unreachable"}
    office.mark((FIRM, "102"), newest, Reachability.REACHABLE)                 # gone meanwhile


def test_a_phone_with_two_flows_rings_by_the_newer_one_that_can_be_reached() -> None:
    office, key = registrar(), (FIRM, "101")
    for number in (1, 2):
        contact = f'<sip:101@192.0.2.{number}>;reg-id={number};+sip.instance="<urn:uuid:1>"'
        Phone(contact=contact).register(office, float(number), ("Supported", "outbound"))
    newer, older = office.lookup(key, 5.0)
    assert office.to_ring(key, 5.0) == [newer]
    office.mark(key, newer, Reachability.UNREACHABLE)
    assert office.to_ring(key, 5.0) == [older]


@pytest.mark.parametrize(("flow", "goes_to"), [
    (PHONE, PHONE.remote), (Flow(Transport.TCP, HERE, Address("192.0.2.7", 40000), 3), Address("192.0.2.7", 5080)),
])
def test_a_path_survives_a_restart(flow: Flow, goes_to: Address) -> None:
    before, after, path = registrar(), registrar(), ("<sip:tok@192.0.2.7:5080;lr>", "<sip:edge.test;lr>")
    response = Phone(flow=flow, contact="<sip:101@10.0.0.7>").register(
        before, 0.0, ("Supported", "path"), ("Path", ", ".join(path))
    )
    assert response.headers.get_all("Path") == list(path)
    after.restore(before.snapshot(0.0), 0.0, lambda transport, remote: Flow(transport, HERE, remote))
    (binding,) = after.lookup((FIRM, "101"), 0.0)
    assert (binding.path, binding.reach.remote) == (path, goes_to)


def test_bindings_survive_a_restart() -> None:
    before = registrar()
    Phone().register(before, 0.0)
    stored = before.snapshot(100.0)
    after = registrar()
    assert after.restore(stored, 7000.0, lambda transport, remote: Flow(transport, HERE, remote)) == 1
    (old,), (new,) = before.lookup((FIRM, "101"), 100.0), after.lookup((FIRM, "101"), 7000.0)
    assert (new.uri, new.reach, new.user_agent, new.call_id) == (old.uri, old.reach, old.user_agent, old.call_id)
    assert new.expires_at - 7000.0 == pytest.approx(3500.0)


@pytest.mark.parametrize(
    "change",
    [{"payload": "{"}, {"payload": "{}"}, {"payload": "[]"}, {"extension": "999"}, {"expires_in": 0.0}],
)
def test_a_stored_binding_that_makes_no_sense_is_left_out(change: dict[str, Any]) -> None:
    before, after = registrar(), registrar()
    Phone().register(before)
    (good,) = before.snapshot(0.0)
    bad = StoredBinding(**{name: change.get(name, getattr(good, name)) for name in StoredBinding.__slots__})
    assert after.restore([bad, good], 0.0, lambda transport, remote: Flow(transport, HERE, remote)) == 1


def test_the_address_of_a_registered_phone_is_known_within_seconds() -> None:
    office = registrar()
    assert not office.knows(PHONE.remote.host, 0.0)
    Phone().register(office, 0.0)
    assert office.knows(PHONE.remote.host, 60.0)
    assert not office.knows("198.51.100.66", 60.0)


def test_a_phone_of_a_fixed_address_is_known_without_registering() -> None:
    fixed = [replace(extension(number), address=address) for number, address in (
        ("7", "sip:7@192.0.2.77:5070"), ("8", "sip:8@desk.example"), ("9", "sip:"))]
    office = registrar(Directory(extensions=tuple(fixed[:1])))
    assert office.knows("192.0.2.77", 0.0)
    office.use(Directory(extensions=tuple(fixed[1:])))
    assert not office.knows("192.0.2.77", 60.0)


def test_only_the_answer_to_a_challenge_of_ours_gets_past_the_door() -> None:
    office, phone = registrar(), Phone()
    asked = office.screen(phone.request(), PHONE, 0.0)
    assert isinstance(asked, Challenge)
    signed = phone.digest.answer(Response(401, None, Headers(asked.headers)), phone.request())
    assert not isinstance(signed, Unanswerable)
    request = phone.request(*signed)
    assert office.screen(request, PHONE, 1.0) is None
    elsewhere = PHONE._replace(remote=Address("198.51.100.66", 5060))
    assert "stale=true" in str(office.screen(request, elsewhere, 1.0))
    assert "stale=true" in str(office.screen(request, PHONE, 1000.0))


def test_a_phone_that_is_known_from_before_a_restart_is_not_silenced_by_who_forges_its_address() -> None:
    before, after = registrar(), registrar()
    Phone().register(before)
    after.restore(before.snapshot(0.0), 0.0, lambda transport, remote: Flow(transport, HERE, remote))
    for _ in range(throttle.SOURCE_CHALLENGES + 1):
        after.screen(Phone().request(), PHONE, 0.0)
    assert isinstance(after.screen(Phone().request(), PHONE, 0.0), Challenge)


SCANNER = PHONE._replace(remote=Address("198.51.100.66", 5060))


def asks(method: str, *, to: str = "100", user_agent: str = "Test phone", flow: Flow = SCANNER) -> Request:
    request = Phone(flow=flow, user=to).request(method=method, uri=f"sip:{to}@pbx.test")
    request.headers.remove("User-Agent")
    request.headers.add("User-Agent", user_agent)
    return request


def guarded() -> Registrar:
    return Registrar(OFFICE, DIGEST, scanners=("friendly-scanner", "SIPVicious"))


@pytest.mark.parametrize("program", ["friendly-scanner", "eyeBeam/Friendly-Scanner 0.3", "sipvicious"])
def test_a_scanner_that_says_so_gets_silence_at_once_and_a_ban(program: str) -> None:
    office = guarded()
    assert office.screen(asks("REGISTER", user_agent=program), SCANNER, 0.0) == Silence()
    assert office.screen(asks("REGISTER"), SCANNER, 1.0) == Silence()
    (ban,) = office.bans(1.0)
    assert (ban.address, ban.account, office.counters.banned) == (SCANNER.remote.host, "", 1)
    assert office.lift_ban(SCANNER.remote.host, 2.0) == 1
    assert isinstance(office.screen(asks("REGISTER"), SCANNER, 2.0), Challenge)


@pytest.mark.parametrize("method", ["REGISTER", "INVITE", "OPTIONS"])
def test_whoever_tries_many_names_is_banned(method: str) -> None:
    office = guarded()
    for number in range(throttle.NAMES_TRIED):
        request = asks(method, to=f"9{number:03}")
        if method == "OPTIONS":
            office.suspect(request, SCANNER, 0.0)
        else:
            assert isinstance(office.screen(request, SCANNER, 0.0), Challenge)
    assert office.screen(asks("REGISTER"), SCANNER, 0.0) == Silence()
    assert "different accounts or numbers" in office.bans(0.0)[0].why


def test_a_whole_office_that_comes_back_after_a_power_cut_is_no_scanner() -> None:
    many = Directory(extensions=tuple(extension(f"1{number:02}") for number in range(2 * throttle.NAMES_TRIED)))
    office = registrar(many)
    for one in many.extensions:
        assert isinstance(office.screen(Phone(one.login, user=one.number).request(), PHONE, 0.0), Challenge)
    assert office.bans(0.0) == []


def test_nothing_forged_bans_a_registered_phone_or_a_trunk() -> None:
    office = guarded()
    Phone().register(office)
    program = "friendly-scanner"
    for number in range(throttle.NAMES_TRIED + 1):
        office.screen(asks("INVITE", to=f"9{number}", flow=PHONE), PHONE, 2.0)
        office.suspect(asks("OPTIONS", to=f"8{number}", flow=PHONE), PHONE, 2.0)
        office.screen(asks("REGISTER", to=f"7{number}"), SCANNER, 2.0, from_trunk=True)
    assert office.screen(asks("REGISTER", user_agent=program, flow=PHONE), PHONE, 2.0) == Silence()
    assert office.screen(asks("REGISTER", user_agent=program), SCANNER, 2.0, from_trunk=True) == Silence()
    for _ in range(throttle.SOURCE_CHALLENGES + 1):
        office.screen(asks("REGISTER"), SCANNER, 2.0, from_trunk=True)
    assert office.bans(2.0) == []
    assert isinstance(office.screen(Phone().request(), PHONE, 2.0), Challenge)


def test_a_request_that_makes_no_sense_is_suspected_of_nothing() -> None:
    office = guarded()
    for number in range(throttle.NAMES_TRIED + 1):
        headers = Headers([("To", f"<<{number}"), ("From", "x"), ("Via", "y")])
        office.suspect(Request("REGISTER", Uri.parse("sip:pbx.test"), headers), SCANNER, 0.0)
        gone = asks("BYE", to=f"9{number}")
        gone.headers.remove("To")
        gone.headers.add("To", "<sip:a@b>;tag=gone")
        office.suspect(gone, SCANNER, 0.0)
    assert office.bans(0.0) == []
