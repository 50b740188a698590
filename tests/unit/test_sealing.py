"""Secrets at rest: opened by every key that we have, in their own place alone, and never half."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2bua.sealing import MARK, Sealer, SecretsLocked, is_sealed

OLD, NEW = "an old key, which is random " * 2, "a new key, which is random too " * 2
PLACE = "crm_accounts/acme/token"


@given(secret=st.text(min_size=1).filter(lambda text: not is_sealed(text)), place=st.text())
def test_what_is_sealed_opens_as_it_was_and_shows_nothing(secret: str, place: str) -> None:
    try:
        secret.encode(), place.encode()
    except UnicodeEncodeError:
        return
    sealer = Sealer([NEW])
    sealed = sealer.seal(secret, place)
    assert is_sealed(sealed)
    assert sealed.isascii()
    assert len(secret) < 4 or secret not in sealed
    assert sealer.open(sealed, place) == secret
    assert sealer.seal(secret, place) != sealed


def test_the_first_key_seals_and_all_open() -> None:
    before, during, after = Sealer([OLD]), Sealer([NEW, OLD]), Sealer([NEW])
    old = before.seal("secret", PLACE)
    assert during.open(old, PLACE) == "secret"
    assert before.is_current(old)
    assert not during.is_current(old)
    new = during.seal("secret", PLACE)
    assert during.is_current(new)
    assert after.open(new, PLACE) == "secret"
    with pytest.raises(SecretsLocked, match=r"sealed with the key [0-9a-f]{8} .*database\.secret_keys"):
        after.open(old, PLACE)


def test_a_secret_that_was_moved_to_another_place_is_not_opened() -> None:
    sealer = Sealer([NEW])
    sealed = sealer.seal("secret", PLACE)
    with pytest.raises(SecretsLocked, match="changed by somebody else"):
        sealer.open(sealed, "crm_accounts/other/token")


@given(data=st.data())
def test_a_secret_that_was_changed_or_cut_is_not_opened(data: st.DataObject) -> None:
    sealer = Sealer([NEW])
    sealed = sealer.seal("secret", PLACE)
    head = len(MARK) + 9
    at = data.draw(st.integers(head, len(sealed) - 4))       # "x==" ends it, where x has spare bits
    changed = sealed[:at] + ("A" if sealed[at] != "A" else "B") + sealed[at + 1:]
    other = data.draw(st.sampled_from([sealed[:at], changed]))
    with pytest.raises(SecretsLocked):
        sealer.open(other, PLACE)


def test_what_was_never_sealed_is_itself_and_nothing_stays_nothing() -> None:
    sealer = Sealer([NEW])
    assert sealer.open("plain-token", PLACE) == "plain-token"
    assert not sealer.is_current("plain-token")
    assert sealer.seal("", PLACE) == sealer.open("", PLACE) == ""
    assert sealer.is_current("")


def test_without_a_key_nothing_is_sealed_or_opened_and_what_is_plain_is_read() -> None:
    keyless = Sealer([])
    assert keyless.open("plain-token", PLACE) == "plain-token"
    with pytest.raises(SecretsLocked, match="no key"):
        keyless.seal("secret", PLACE)
    with pytest.raises(SecretsLocked, match="we have none"):
        keyless.open(Sealer([NEW]).seal("secret", PLACE), PLACE)
