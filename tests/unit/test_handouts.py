"""Credentials of phones are in memory for an hour, and fetched once."""

from __future__ import annotations

from xml.etree import ElementTree

from b2bua.cdr import ClientId
from b2bua.config import Listener
from b2bua.handouts import MOST_PHONES, SECONDS, Handouts, Phone, PhoneServer, linphone_xml, new_password, servers_of
from b2bua.sip.effects import Address

ANNA = Phone(ClientId("acme"), "101", "Anna", "acme-101", "of-the-phone")


def test_a_link_is_fetched_once_and_the_page_stays_for_an_hour() -> None:
    handouts = Handouts()
    page = handouts.give([ANNA], 0.0)
    found = handouts.look(page, SECONDS - 1)
    assert found is not None
    assert handouts.is_open(found.link)
    assert handouts.fetch(found.link, SECONDS - 1) == ANNA
    assert handouts.fetch(found.link, SECONDS - 1) is None
    assert not handouts.is_open(found.link)
    assert handouts.look(page, SECONDS - 1) == found
    assert handouts.look(page, SECONDS) is None


def test_an_old_link_opens_nothing() -> None:
    handouts = Handouts()
    found = handouts.look(handouts.give([ANNA], 0.0), 0.0)
    assert found is not None
    assert handouts.fetch(found.link, SECONDS) is None


def test_the_table_is_bounded_and_the_oldest_goes() -> None:
    handouts = Handouts()
    first = handouts.give([ANNA] * MOST_PHONES, 0.0)
    assert handouts.look(first, 1.0) is not None
    second = handouts.give([ANNA], 1.0)
    assert handouts.look(first, 1.0) is None
    assert handouts.look(second, 1.0) is not None


def test_passwords_are_long_and_can_be_read_aloud() -> None:
    made = {new_password() for _ in range(100)}
    assert len(made) == 100
    assert all(len(one) == 16 and not set(one) & set("0O1lI") for one in made)
    assert "of-the-phone" not in repr(ANNA)


def test_phones_are_sent_to_what_listeners_say_of_themselves() -> None:
    listeners = (Listener(transport="udp", host="::"), Listener(transport="tcp", host="192.0.2.1"),
                 Listener(transport="tcp", host="::", advertise="sip.example.org"))
    bound = [Address("::", 5060), Address("192.0.2.1", 5062), Address("::", 5064)]
    assert servers_of(listeners, bound, "pbx.example.org") == (
        PhoneServer("tcp", "192.0.2.1", 5062), PhoneServer("tcp", "sip.example.org", 5064),
        PhoneServer("udp", "pbx.example.org", 5060))


def test_linphone_sets_itself_up_and_no_name_breaks_its_file() -> None:
    hostile = Phone(ClientId("acme"), "10#", 'A"<sip:x>\n[misc]\\', "acme-10#", "p<&>w")
    xml = linphone_xml(hostile, PhoneServer("tcp", "2001:db8::1", 5060), "pbx")
    entries = {
        (section.get("name"), entry.get("name")): entry.text
        for section in ElementTree.fromstring(xml)  # noqa: S314 - our own
        for entry in section
    }
    assert entries["proxy_0", "reg_proxy"] == "<sip:[2001:db8::1]:5060;transport=tcp>"
    assert entries["proxy_0", "reg_identity"] == '"Asip:x[misc]" <sip:10%23@[2001:db8::1]>'
    assert entries["auth_info_0", "userid"] == "acme-10#"
    assert entries["auth_info_0", "passwd"] == "p<&>w"
    assert entries["misc", "transient_provisioning"] == "1"
