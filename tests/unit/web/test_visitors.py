"""Whose address counts, when proxies stand between."""

from __future__ import annotations

import ipaddress

import pytest
from starlette.requests import Request

from web.visitors import account_of, address_of

PROXIES = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))


def request(peer: str | None, *forwarded: str) -> Request:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    return Request({"type": "http", "headers": headers, "client": (peer, 1) if peer else None})


@pytest.mark.parametrize(("peer", "forwarded", "expected"), [
    ("192.0.2.1", (), "192.0.2.1"),
    ("10.0.0.1", (), "10.0.0.1"),
    ("10.0.0.1", ("192.0.2.1",), "192.0.2.1"),
    ("10.0.0.1", ("198.51.100.7, 192.0.2.1",), "192.0.2.1"),             # what the stranger wrote in does not count
    ("10.0.0.1", ("198.51.100.7", "192.0.2.1"), "192.0.2.1"),
    ("10.0.0.1", ("192.0.2.1, 10.0.0.2",), "192.0.2.1"),                 # two proxies of ours
    ("10.0.0.1", ("127.0.0.1, 192.0.2.1, 10.0.0.2",), "192.0.2.1"),
    ("192.0.2.1", ("127.0.0.1",), None),                                 # not through a proxy of ours: anybody
    ("127.0.0.1", ("192.0.2.1",), None),
    ("10.0.0.1", ("unknown",), None),
    ("10.0.0.1", ("",), "10.0.0.1"),
    ("fd00::1", ("2001:db8::1",), "2001:db8::1"),
    ("::ffff:10.0.0.1", ("::ffff:192.0.2.1",), "192.0.2.1"),
    (None, (), None),
])
def test_the_address_behind_our_own_proxies(peer: str | None, forwarded: tuple[str, ...], expected: str | None) -> None:
    address = address_of(request(peer, *forwarded), PROXIES)
    assert address == (ipaddress.ip_address(expected) if expected else None)


def test_a_thousand_hops_are_not_read() -> None:
    assert address_of(request("10.0.0.1", ", ".join(["10.0.0.2"] * 1000)), PROXIES) == ipaddress.ip_address("10.0.0.2")


def test_an_ipv6_neighbourhood_is_one_guesser() -> None:
    one, other = ipaddress.ip_address("2001:db8::1"), ipaddress.ip_address("2001:db8::2:1")
    assert account_of(one) == account_of(other) == "2001:db8::/64"
    assert account_of(ipaddress.ip_address("192.0.2.1")) == "192.0.2.1"
    assert account_of(None) == "unknown"
