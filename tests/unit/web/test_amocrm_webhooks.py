"""amoCRM tells its changes: at an address that nobody guesses, in a form that nobody believes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from random import Random
from urllib.parse import urlencode

import pytest

from b2bua.cdr import ClientId
from b2bua.crm.people import Hint
from b2bua.crm.port import EntityKind
from b2bua.links import WebhookLinks
from tests.support.web_site import ACME, HOOKS, KEYS, LINKS, Site, open_site
from web import amocrm_webhooks as limits
from web.amocrm_webhooks import hints


@pytest.fixture
def site(tmp_path: Path) -> AbstractAsyncContextManager[Site]:
    return open_site(tmp_path)


def form(*fields: tuple[str, str]) -> bytes:
    return urlencode([*fields, ("account[subdomain]", "acme"), ("account[id]", "31")]).encode()


async def test_changed_cards_are_heard_of(site: Site) -> None:
    body = form(
        ("contacts[update][0][id]", "9001"), ("contacts[update][0][name]", "Иван"),
        ("contacts[update][0][custom_fields][0][id]", "401"), ("contacts[update][0][type]", "contact"),
        ("contacts[update][1][id]", "9501"), ("contacts[update][1][type]", "company"),
        ("contacts[delete][0][id]", "9002"), ("leads[responsible][0][id]", "7001"),
    )
    async with site.browser() as browser:
        answer = await browser.post(HOOKS.path(ACME), content=body)
    assert answer.status_code == 204
    assert site.listener.heard == [
        (ACME, Hint(EntityKind.CONTACT, 9001)), (ACME, Hint(EntityKind.COMPANY, 9501)),
        (ACME, Hint(EntityKind.CONTACT, 9002, is_gone=True)), (ACME, Hint(EntityKind.LEAD, 7001)),
    ]


async def test_who_does_not_know_the_address_is_not_heard(site: Site) -> None:
    body = form(("contacts[update][0][id]", "9001"))
    recording = LINKS.path("acme").rpartition("/")[2].removesuffix(".mp3")
    async with site.browser() as browser:
        for token in ("acme", "acme.", "acme.wrong", HOOKS.path(ClientId("beta"))[-40:], recording, "x" * 500, "%00"):
            assert (await browser.post(f"/hooks/amocrm/{token}", content=body)).status_code == 404, token
        assert (await browser.get(HOOKS.path(ACME))).status_code == 405
        other = ClientId("beta")
        assert (await browser.post(HOOKS.path(other), content=body)).status_code == 404    # no such listener
    assert site.listener.heard == []


async def test_a_body_without_an_end_is_answered_and_left(site: Site) -> None:
    async def for_ever() -> AsyncIterator[bytes]:
        yield form(("contacts[update][0][id]", "9001")) + b"&"
        for _ in range(2 * limits.LARGEST_BODY // 1024):
            yield b"a" * 1024

    async with site.browser() as browser:
        answer = await browser.post(HOOKS.path(ACME), content=for_ever())
    assert answer.status_code == 204
    assert site.listener.heard == [(ACME, Hint(EntityKind.CONTACT, 9001))]


async def test_a_storm_is_answered_and_not_read(site: Site) -> None:
    body = form(("contacts[update][0][id]", "9001"))
    async with site.browser() as browser:
        for _ in range(limits.PER_MINUTE + 20):
            assert (await browser.post(HOOKS.path(ACME), content=body)).status_code == 204
    assert limits.PER_MINUTE <= len(site.listener.heard) < limits.PER_MINUTE + 20


@pytest.mark.parametrize("fields", [
    [("contacts[update][0][id]", "")], [("contacts[update][0][id]", "9" * 30)], [("contacts[update][0][id]", "-1")],
    [("contacts[update][0][id]", "٣")], [("contacts[update][0][type]", "company")], [("contacts[update][][id]", "1")],
    [("contacts[note][0][id]", "1")], [("tasks[update][0][id]", "1")], [("contacts[update][0][id][x]", "1")],
])
def test_what_names_no_card_is_nothing(fields: list[tuple[str, str]]) -> None:
    assert list(hints(form(*fields))) == []


def test_a_form_of_many_fields_is_read_as_far_as_the_limit() -> None:
    body = form(*((f"contacts[update][{index}][id]", str(index + 1)) for index in range(limits.MOST_FIELDS + 100)))
    assert len(list(hints(body))) == limits.MOST_FIELDS


def test_random_bytes_break_nothing() -> None:
    random = Random(1)
    for _ in range(500):
        body = bytearray(form(("contacts[update][0][id]", "9001"), ("leads[delete][0][id]", "7001")))
        for _ in range(random.randrange(10)):
            body[random.randrange(len(body))] = random.randrange(256)
        for hint in hints(bytes(body)):
            assert hint.card >= 0


def test_an_address_in_the_clear_is_none() -> None:
    assert WebhookLinks(KEYS.link, "http://pbx.example.org").url(ACME) is None
    assert WebhookLinks(KEYS.link, None).url(ACME) is None
    url = HOOKS.url(ACME)
    assert url is not None
    assert HOOKS.client(url.rpartition("/")[2]) == ACME
    assert WebhookLinks(b"another", "https://pbx.example.org").client(url.rpartition("/")[2]) is None
