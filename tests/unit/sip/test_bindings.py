"""RFC 3261 §10.3 as a table: what a REGISTER does to the bindings that there are."""

from __future__ import annotations

from typing import Any

import pytest

from b2bua.sip.bindings import MAX_REORDERING, Binding, BindingPolicy, Bindings, Reachability, Refused, Registered
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


# -- outbound (RFC 5626) and Path (RFC 3327)

INSTANCE = '+sip.instance="<urn:uuid:1>"'
PROXIED = PHONE._replace(remote=Address("198.51.100.5", 5060))
EDGE = TCP._replace(remote=Address("198.51.100.5", 41234))
THROUGH = {"Supported": "path, outbound", "Path": "<sip:edge.test;lr>, <sip:tok@198.51.100.5:5080;transport=tcp;lr;ob>"}


def users(bindings: Bindings) -> list[str]:
    return sorted(binding.uri.user for binding in bindings.contacts(0.0))


@pytest.mark.parametrize(
    ("first", "second", "left"),
    [
        (f"reg-id=1;{INSTANCE}", f"reg-id=1;{INSTANCE}", ["new"]),              # the same flow, made anew
        (f"reg-id=1;{INSTANCE}", f"reg-id=2;{INSTANCE}", ["new", "old"]),       # another flow of the same phone
        (f"reg-id=1;{INSTANCE}", 'reg-id=1;+sip.instance="<urn:uuid:2>"', ["new", "old"]),
        (INSTANCE, INSTANCE, ["new"]),                                          # a deviation, see _replaced_by
        (INSTANCE, f"reg-id=1;{INSTANCE}", ["new", "old"]),
        ("reg-id=1", "reg-id=1", ["new", "old"]),                               # means nothing without an instance
        ("q=1", "q=1", ["new", "old"]),
    ],
)
def test_which_binding_a_phone_replaces_when_it_comes_again(first: str, second: str, left: list[str]) -> None:
    bindings = Bindings(5)
    do(bindings, register(f"<sip:old@192.0.2.7>;{first}", call_id="before", Supported="outbound"))
    do(bindings, register(f"<sip:new@192.0.2.7>;{second}", call_id="after", Supported="outbound"))
    assert users(bindings) == left


def test_a_phone_that_learns_of_outbound_and_forgets_it_again_has_one_binding() -> None:
    bindings = Bindings(5)
    for call_id, params in (("a", ""), ("b", f";reg-id=1;{INSTANCE}"), ("c", "")):
        do(bindings, register(f"<sip:101@192.0.2.7>{params}", call_id=call_id))
        assert users(bindings) == ["101"]


def test_what_one_register_names_stays_together() -> None:
    bindings = Bindings(5)
    both = [f"<sip:{user}@192.0.2.7>;{INSTANCE}" for user in ("udp", "tcp")]
    do(bindings, register(*both))
    do(bindings, register(*both, cseq=2), now=1.0)
    assert users(bindings) == ["tcp", "udp"]


def test_a_full_extension_takes_the_rebooted_phone_and_says_what_is_wrong_to_another() -> None:
    bindings = Bindings(1)
    do(bindings, register(f"<sip:old@192.0.2.7>;reg-id=1;{INSTANCE}", call_id="before"))
    assert isinstance(do(bindings, register(f"<sip:new@192.0.2.7>;reg-id=1;{INSTANCE}", call_id="after")), Registered)
    refused = do(bindings, register("<sip:other@192.0.2.8>", call_id="other"))
    why = '399 smartswitch "1 registered already, as many as this extension may have (max_contacts)"'
    assert refused == Refused(403, "Too Many Contacts", (("Warning", why),))


@pytest.mark.parametrize(
    ("flow", "supported", "params", "agreed"),
    [
        (TCP, "outbound", f"reg-id=1;{INSTANCE}", True),
        (TCP, "path", f"reg-id=1;{INSTANCE}", False),
        (TCP, "outbound", INSTANCE, False),
        (TCP, "outbound", "reg-id=1", False),
        (PHONE, "outbound", f"reg-id=1;{INSTANCE}", False),        # by UDP it would need STUN
    ],
)
def test_when_outbound_holds_and_what_it_means(flow: Flow, supported: str, params: str, agreed: bool) -> None:
    bindings = Bindings(5)
    outcome = do(bindings, register(f"<sip:101@192.0.2.7:5060>;{params}", Supported=supported), flow=flow)
    assert isinstance(outcome, Registered)
    assert outcome.headers == ((("Require", "outbound"), ("Flow-Timer", "120")) if agreed else ())
    bindings.drop_connection(flow)
    if flow.connection:
        assert len(bindings.contacts(0.0)) == (0 if agreed else 1)


def test_unregistering_a_flow_agrees_on_nothing() -> None:
    bindings = Bindings(5)
    contact = f"<sip:101@192.0.2.7>;reg-id=1;{INSTANCE}"
    do(bindings, register(contact, Supported="outbound"), flow=TCP)
    outcome = do(bindings, register(f"{contact};expires=0", cseq=2, Supported="outbound"), flow=TCP)
    assert isinstance(outcome, Registered)
    assert (outcome.headers, outcome.contacts) == ((), ())


def test_one_register_makes_one_flow() -> None:
    flows = [f"<sip:101@192.0.2.7>;reg-id={number};{INSTANCE}" for number in (1, 2)]
    assert do(Bindings(5), register(*flows, Supported="outbound"), flow=TCP) == Refused(400, "One Flow At A Time")


@pytest.mark.parametrize(("flow", "reached_at"), [
    (PROXIED, PROXIED), (EDGE, EDGE),
])
def test_what_goes_to_a_phone_behind_a_proxy_goes_through_it(flow: Flow, reached_at: Flow) -> None:
    bindings = Bindings(5)
    outcome = do(bindings, register("<sip:101@10.0.0.7>;expires=600", **THROUGH), flow=flow)
    assert isinstance(outcome, Registered)
    (binding,) = outcome.contacts
    hops = ("<sip:edge.test;lr>", "<sip:tok@198.51.100.5:5080;transport=tcp;lr;ob>")
    assert outcome.headers == tuple(("Path", hop) for hop in hops)
    assert (binding.path, binding.reach, binding.expires_at) == (hops, reached_at, 600.0)


def test_a_proxys_connection_may_end_and_its_phones_stay() -> None:
    bindings = Bindings(5)
    through = THROUGH | {"Path": "<sip:tok@edge.test:5080;lr>"}
    do(bindings, register("<sip:101@10.0.0.7>", **through), flow=EDGE)
    bindings.drop_connection(EDGE)
    (binding,) = bindings.contacts(0.0)
    assert binding.reach == EDGE._replace(remote=Address("198.51.100.5", 5080), connection=0)


@pytest.mark.parametrize(
    ("path", "supported", "status", "reason"),
    [
        ("<sip:edge.test;lr>", "outbound", 420, "Bad Extension"),
        ("<sip:edge.test>", "path", 400, "Path Without Loose Routing"),
        ("<tel:123;lr>", "path", 400, "Path Without Loose Routing"),
        ("<<>", "path", 400, "Malformed Path"),
        (", ".join(["<sip:edge.test;lr>"] * 9), "path", 400, "Path Too Long"),
        (f"<sip:{'x' * 600}@edge.test;lr>", "path", 400, "Path Too Long"),
    ],
)
def test_a_path_that_is_refused(path: str, supported: str, status: int, reason: str) -> None:
    outcome = do(Bindings(5), register("<sip:101@10.0.0.7>", Path=path, Supported=supported), flow=PROXIED)
    assert isinstance(outcome, Refused)
    assert (outcome.status, outcome.reason) == (status, reason)
    if status == 420:
        assert outcome.headers == (("Unsupported", "path"), ("Path", path))


@pytest.mark.parametrize(("path", "fits"), [
    ("<sip:outer.test;lr>, <sip:edge.test;lr;ob>", True), ("<sip:outer.test;lr;ob>, <sip:edge.test;lr>", False),
    (None, False),
])
def test_the_proxy_nearest_to_the_phone_must_know_of_flows(path: str | None, fits: bool) -> None:
    headers = {"Supported": "path, outbound"} | ({} if path is None else {"Path": path})
    request = register(f"<sip:101@10.0.0.7>;reg-id=1;{INSTANCE}", **headers)
    request.headers.add("Via", "SIP/2.0/UDP 10.0.0.7;branch=z9hG4bK2")
    outcome = do(Bindings(5), request, flow=PROXIED)
    if fits:
        assert isinstance(outcome, Registered)
        assert outcome.headers[-1] == ("Require", "outbound")           # keep-alives are the proxy's affair
    else:
        assert outcome == Refused(439, "First Hop Lacks Outbound Support")


def test_a_refresh_by_the_same_way_says_nothing_new_of_reachability() -> None:
    bindings = Bindings(5)
    do(bindings, register("<sip:101@192.0.2.7>"))
    bindings.mark(bindings.contacts(0.0)[0], Reachability.UNREACHABLE)
    do(bindings, register("<sip:101@192.0.2.7>", cseq=2))
    assert bindings.contacts(0.0)[0].reachability is Reachability.UNREACHABLE
    stale = bindings.contacts(0.0)[0]
    do(bindings, register("<sip:101@192.0.2.7>", cseq=3), flow=PHONE._replace(remote=Address("192.0.2.7", 6060)))
    bindings.mark(stale, Reachability.UNREACHABLE)                      # found out of the one before
    assert bindings.contacts(0.0)[0].reachability is Reachability.UNKNOWN
