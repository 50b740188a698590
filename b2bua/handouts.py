"""What phones are told so that they register: made when a password is, in memory alone, and gone soon after."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from xml.etree import ElementTree

from b2bua.cdr import ClientId
from b2bua.config import Listener
from b2bua.sip.effects import Address

SECONDS = 3600.0                       # so long a handout can be read, and its link be fetched
MOST_PHONES = 20_000                   # in all handouts; the oldest goes first
PASSWORD_LENGTH = 16
# Whoever types it into a phone shall not have to guess: nothing that looks like something else, as 0 and O, 1 and l.
_LETTERS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_BEST_FIRST = ("tls", "tcp", "udp")
_NAMESPACE = "http://www.linphone.org/xsds/lpconfig.xsd"


@dataclass(frozen=True, slots=True)
class PhoneServer:
    """Where phones register."""

    transport: str                     # "udp", "tcp", "tls"
    host: str
    port: int

    def __str__(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Phone:
    client: ClientId
    extension: str
    name: str
    login: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Handout:
    phones: tuple[Phone, ...]
    until: float
    link: str                          # token of the address where a phone fetches it; "": there are several phones


class Handouts:
    def __init__(self) -> None:
        self._pages: OrderedDict[str, Handout] = OrderedDict()
        self._links: dict[str, str] = {}                       # token of a phone's link -> of the page

    def give(self, phones: Sequence[Phone], now: float) -> str:
        """A token by which the page that shows them is found."""
        page, link = secrets.token_urlsafe(24), secrets.token_urlsafe(24) if len(phones) == 1 else ""
        self._pages[page] = Handout(tuple(phones), now + SECONDS, link)
        if link:
            self._links[link] = page
        self._forget(now)
        return page

    def look(self, page: str, now: float) -> Handout | None:
        self._forget(now)
        return self._pages.get(page)

    def is_open(self, link: str) -> bool:
        """Whether no phone has fetched it yet."""
        return link in self._links

    def fetch(self, link: str, now: float) -> Phone | None:
        """Once."""
        self._forget(now)
        page = self._links.pop(link, None)
        return self._pages[page].phones[0] if page is not None else None

    def _forget(self, now: float) -> None:
        while self._pages:
            page, oldest = next(iter(self._pages.items()))
            if oldest.until > now and sum(len(one.phones) for one in self._pages.values()) <= MOST_PHONES:
                return
            del self._pages[page]
            self._links.pop(oldest.link, None)


def new_password() -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(PASSWORD_LENGTH))


def servers_of(listeners: Sequence[Listener], bound: Sequence[Address], otherwise: str) -> tuple[PhoneServer, ...]:
    """The best first. `bound`: where each listener really is; `otherwise`: the host of those that are everywhere and
    say nothing of themselves."""
    def host_of(one: Listener) -> str:
        return one.advertise or (otherwise if ip_address(one.host).is_unspecified else one.host)

    found = [PhoneServer(one.transport, host_of(one), at.port) for one, at in zip(listeners, bound, strict=True)]
    return tuple(sorted(dict.fromkeys(found), key=lambda one: _BEST_FIRST.index(one.transport)))


def linphone_xml(phone: Phone, server: PhoneServer, realm: str) -> bytes:
    """The file of Linphone's remote provisioning; it forgets the address after it has read it."""
    name = "".join(one for one in phone.name if one.isprintable() and one not in '"\\<>')
    host = f"[{server.host}]" if ":" in server.host else server.host
    identity = f"sip:{phone.extension.replace('#', '%23')}@{host}"
    sections = {
        "misc": {"transient_provisioning": "1"},
        "sip": {"default_proxy": "0"},
        "proxy_0": {
            "reg_proxy": f"<sip:{server};transport={server.transport}>",
            "reg_identity": f'"{name}" <{identity}>' if name else identity,
            "reg_sendregister": "1",
            "realm": realm,
        },
        "auth_info_0": {
            "username": phone.extension, "userid": phone.login, "passwd": phone.password, "realm": realm,
        },
    }
    config = ElementTree.Element("config", xmlns=_NAMESPACE)
    for section, entries in sections.items():
        place = ElementTree.SubElement(config, "section", name=section)
        for key, value in entries.items():
            ElementTree.SubElement(place, "entry", name=key, overwrite="true").text = value
    xml: bytes = ElementTree.tostring(config, encoding="UTF-8", xml_declaration=True)
    return xml
