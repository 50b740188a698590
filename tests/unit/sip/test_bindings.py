"""RFC 3261 §10.3 as a table: what a REGISTER does to the bindings that there are."""

from __future__ import annotations

from typing import Any

import pytest

from b2bua.sip.bindings import MAX_REORDERING, Binding, BindingPolicy, Bindings, Refused, Registered
from b2bua.sip.effects import Address, Flow, Transport
from b2bua.sip.headers import Headers
from b2bua.sip.message import Request
from b2bua.sip.uri import Uri

HERE = Address("192.0.2.1", 5060)
PHONE = Flow(Transport.UDP, HERE, Address("192.0.2.7", 5060))
POLICY = BindingPolicy(min_expires=60, max_expires=3600, default_expires=1800, behind_nat_expires=90)


def register(*contacts: str, cseq: int = 1, call_id: str = "a", **headers: Any) -> Request:
    fields = [
        ("Via", "SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1;rport"),
        ("From", "<sip:101@pbx.test>;tag=1"),
        ("To", "<sip:101@pbx.test>"),
        ("Call-ID", call_id),
        ("CSeq", f"{cseq} REGISTER"),
        *(("Contact", contact) for contact in contacts),
        *((name.replace("_", "-"), str(value)) for name, value in headers.items()),
    ]
    return Request("REGISTER", Uri.parse("sip:pbx.test"), Headers(fields))


def bound(bindings: Bindings, now: float = 0.0) -> list[tuple[str, float]]:
    return [(str(binding.uri), binding.expires_at - now) for binding in bindings.contacts(now)]


def do(bindings: Bindings, request: Request, now: float = 0.0, flow: Flow = PHONE) -> Registered | Refused:
    return bindings.register(request, flow, now, POLICY)


@pytest.mark.parametrize(
    ("contact", "header", "granted"),
    [
        ("<sip:101@192.0.2.7>;expires=120", None, 120),
        ("<sip:101@192.0.2.7>;expires=120", 600, 120),
        ("<sip:101@192.0.2.7>", 600, 600),
        ("<sip:101@192.0.2.7>", None, 1800),
        ("<sip:101@192.0.2.7>;expires=soon", None, 1800),
        ("<sip:101@192.0.2.7>", "soon", 1800),
        ("<sip:101@192.0.2.7>;expires=86400", None, 3600),
        ("<sip:101@192.0.2.7>;expires=60", None, 60),
    ],
)
def test_expiry_is_the_contacts_then_the_headers_then_ours_within_limits(
    contact: str, header: object, granted: float
) -> None:
    bindings = Bindings(5)
    do(bindings, register(contact, **({} if header is None else {"Expires": header})))
    assert bound(bindings) == [("sip:101@192.0.2.7", granted)]


def test_too_brief_is_423_with_what_would_do() -> None:
    bindings = Bindings(5)
    refused = do(bindings, register("<sip:101@192.0.2.7>;expires=59"))
    assert refused == Refused(423, "Interval Too Brief", (("Min-Expires", "60"),))
    assert bound(bindings) == []


def test_a_register_without_contact_only_asks() -> None:
    bindings = Bindings(5)
    do(bindings, register("<sip:101@192.0.2.7>"))
    outcome = do(bindings, register(cseq=2))
    assert isinstance(outcome, Registered)
    assert [str(binding.uri) for binding in outcome.contacts] == ["sip:101@192.0.2.7"]


def test_a_refresh_replaces_the_equal_contact_and_keeps_the_others() -> None:
    bindings = Bindings(5)
    do(bindings, register("<sip:101@192.0.2.7>;expires=100", "<sip:101@192.0.2.8>;expires=100"))
    do(bindings, register("<sip:101@192.0.2.7:5060>;expires=100", call_id="b"))      # another port: another contact
    do(bindings, register("<SIP:101@192.0.2.7>;expires=200", cseq=2))
    assert sorted(bound(bindings)) == [
        ("SIP:101@192.0.2.7", 200.0), ("sip:101@192.0.2.7:5060", 100.0), ("sip:101@192.0.2.8", 90.0),
    ]  # fmt: skip


def test_zero_removes_that_contact_and_an_unknown_one_is_no_fault() -> None:
    bindings = Bindings(5)
    do(bindings, register("<sip:101@192.0.2.7>", "<sip:101@192.0.2.8>"))
    outcome = do(bindings, register("<sip:101@192.0.2.7>;expires=0", "<sip:101@192.0.2.9>;expires=0", cseq=2))
    assert isinstance(outcome, Registered)
    assert [str(binding.uri) for binding in outcome.removed] == ["sip:101@192.0.2.7"]
    assert [uri for uri, _ in bound(bindings)] == ["sip:101@192.0.2.8"]


def test_a_star_with_expires_zero_removes_all() -> None:
    bindings = Bindings(5)
    do(bindings, register("<sip:101@192.0.2.7>", "<sip:101@192.0.2.8>"))
    outcome = do(bindings, register("*", cseq=2, Expires=0))
    assert isinstance(outcome, Registered)
    assert len(outcome.removed) == 2
    assert bound(bindings) == []


@pytest.mark.parametrize(
    ("contacts", "expires"),
    [(["*"], None), (["*"], 60), (["*", "<sip:101@192.0.2.7>"], 0), (["*", "*"], 0)],
)
def test_any_other_star_is_400(contacts: list[str], expires: int | None) -> None:
    bindings = Bindings(5)
    do(bindings, register("<sip:101@192.0.2.7>"))
    outcome = do(bindings, register(*contacts, cseq=2, **({} if expires is None else {"Expires": expires})))
    assert isinstance(outcome, Refused)
    assert outcome.status == 400
    assert len(bound(bindings)) == 1


@pytest.mark.parametrize(
    "contact", ["<http://x/>", "<tel:+123456>", "<sip:" + "x" * 600 + "@192.0.2.7>", "<sip:", "<>"]
)
def test_a_contact_that_cannot_be_called_is_400(contact: str) -> None:
    outcome = do(Bindings(5), register(contact))
    assert isinstance(outcome, Refused)
    assert outcome.status == 400


@pytest.mark.parametrize(
    "late", [register("<sip:101@192.0.2.7>;expires=0", cseq=4), register("*", cseq=5, Expires=0)], ids=["one", "all"]
)
def test_a_late_request_of_the_same_call_id_changes_nothing(late: Request) -> None:
    bindings = Bindings(5)
    do(bindings, register("<sip:101@192.0.2.7>", cseq=5))
    outcome = do(bindings, late, now=1.0)
    assert isinstance(outcome, Refused)
    assert outcome.status == 500
    assert len(bound(bindings)) == 1


def test_a_phone_that_restarts_with_its_old_call_id_and_a_low_cseq_gets_in_again() -> None:
    bindings = Bindings(5)
    do(bindings, register("<sip:101@192.0.2.7>", cseq=500))
    assert isinstance(do(bindings, register("<sip:101@192.0.2.7>", cseq=1), now=MAX_REORDERING - 1), Refused)
    assert isinstance(do(bindings, register("<sip:101@192.0.2.7>", cseq=1), now=MAX_REORDERING), Registered)


def test_one_contact_too_many_is_403_and_changes_nothing() -> None:
    bindings = Bindings(2)
    do(bindings, register("<sip:101@192.0.2.7>"))
    outcome = do(bindings, register("<sip:101@192.0.2.8>", "<sip:101@192.0.2.9>", call_id="b"))
    assert isinstance(outcome, Refused)
    assert (outcome.status, outcome.reason) == (403, "Too Many Contacts")
    assert len(bound(bindings)) == 1


def test_an_expired_binding_makes_room_and_is_not_shown() -> None:
    bindings = Bindings(1)
    do(bindings, register("<sip:101@192.0.2.7>;expires=60"))
    assert bound(bindings, 59.9) != []
    assert bound(bindings, 60.0) == []
    assert isinstance(do(bindings, register("<sip:101@192.0.2.8>", call_id="b"), now=60.0), Registered)


def test_contacts_come_best_q_first_then_newest() -> None:
    bindings = Bindings(5)
    do(bindings, register("<sip:old@192.0.2.7>;q=0.5"))
    do(bindings, register("<sip:new@192.0.2.7>;q=0.5", call_id="b"), now=1.0)
    do(bindings, register("<sip:best@192.0.2.7>", "<sip:last@192.0.2.7>;q=0.1", "<sip:odd@192.0.2.7>;q=7", call_id="c"))
    assert [binding.uri.user for binding in bindings.contacts(1.0)] == ["best", "odd", "new", "old", "last"]


def test_the_same_instance_from_a_new_address_replaces_the_old_binding() -> None:
    bindings = Bindings(5)
    for host in ("192.0.2.7", "192.0.2.8"):
        contact = f'<sip:101@{host}>;reg-id=1;+sip.instance="<urn:uuid:1>"'
        do(bindings, register(contact, call_id=host))
    assert [uri for uri, _ in bound(bindings)] == ["sip:101@192.0.2.8"]


NATTED = PHONE._replace(remote=Address("203.0.113.9", 41000))
TCP = Flow(Transport.TCP, HERE, Address("192.0.2.7", 55555), 7)
BROWSER = TCP._replace(transport=Transport.WS)


@pytest.mark.parametrize(
    ("contact", "flow", "reached_at"),
    [
        ("<sip:101@192.0.2.7>", PHONE, PHONE),
        ("<sip:101@10.0.0.7:5062>", NATTED, NATTED),                       # a private address inside
        ("<sip:101@192.0.2.7:5062>", PHONE, PHONE),                        # rport was asked for: it listens there
        ("<sip:101@192.0.2.7:5062;transport=tcp>", TCP, TCP),
        ("<sip:x@abc.invalid;transport=ws>", BROWSER, BROWSER),
    ],
)
def test_a_phone_is_reached_by_the_way_that_is_open(contact: str, flow: Flow, reached_at: Flow) -> None:
    bindings = Bindings(5)
    do(bindings, register(contact), flow=flow)
    assert bindings.contacts(0.0)[0].reach == reached_at


def test_without_rport_the_contacts_port_is_where_the_phone_listens() -> None:
    request = register("<sip:101@192.0.2.7:5062>")
    request.headers.set("Via", "SIP/2.0/UDP 192.0.2.7:5062;branch=z9hG4bK1")
    bindings = Bindings(5)
    do(bindings, request, flow=PHONE._replace(remote=Address("192.0.2.7", 33333)))
    assert bindings.contacts(0.0)[0].reach.remote == Address("192.0.2.7", 5062)


def test_behind_a_nat_udp_bindings_are_short_so_that_the_hole_stays_open() -> None:
    bindings = Bindings(5)
    do(bindings, register("<sip:101@10.0.0.7>;expires=3600"), flow=NATTED)
    assert bound(bindings) == [("sip:101@10.0.0.7", 90.0)]


def test_a_lost_connection_forgets_the_phone_behind_a_nat_and_redials_the_open_one() -> None:
    bindings = Bindings(5)
    do(bindings, register("<sip:open@192.0.2.7:5061;transport=tcp>", "<sip:inside@10.0.0.7;transport=tcp>"), flow=TCP)
    bindings.drop_connection(TCP)
    assert [(binding.uri.user, binding.reach) for binding in bindings.contacts(0.0)] == [
        ("open", TCP._replace(remote=Address("192.0.2.7", 5061), connection=0)),
    ]


@pytest.mark.parametrize("contact", ["<sips:101@192.0.2.7:5061>", "<sip:101@192.0.2.7:5061;transport=tls>"])
def test_by_tls_a_phone_is_its_connection(contact: str) -> None:
    tls = TCP._replace(transport=Transport.TLS)
    bindings = Bindings(5)
    do(bindings, register(contact), flow=tls)
    assert bindings.contacts(0.0)[0].reach == tls
    bindings.drop_connection(tls)
    assert bindings.contacts(0.0) == []


@pytest.mark.parametrize("transport", list(Transport))
def test_a_sips_contact_needs_tls(transport: Transport) -> None:
    answer = Bindings(5).register(
        register("<sips:101@192.0.2.7>"), TCP._replace(transport=transport), 0.0, BindingPolicy()
    )
    if transport.secure:
        assert isinstance(answer, Registered)
    else:
        assert answer == Refused(400, "SIPS Contact Needs TLS")


def test_the_contact_of_the_answer_says_what_is_left() -> None:
    bindings = Bindings(5)
    do(bindings, register('<sip:101@192.0.2.7>;expires=100;q=0.7;+sip.instance="<urn:uuid:1>";reg-id=1'))
    binding: Binding = bindings.contacts(0.0)[0]
    assert binding.contact(10.0) == '<sip:101@192.0.2.7>;q=0.7;expires=90;+sip.instance="<urn:uuid:1>";reg-id=1'
