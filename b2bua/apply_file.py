"""Brings clients, trunks, numbers, extensions and groups to what a TOML file says: all checked first, then at once."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from b2bua.cdr import ClientId
from b2bua.config import Network, read_toml
from b2bua.directory import (
    ANNOUNCEMENT,
    Cause,
    Client,
    CrmAccount,
    Directory,
    Extension,
    Group,
    Hours,
    Number,
    PrefixLimit,
    Strategy,
    Trunk,
)
from b2bua.faults import ConfigurationFaults, Fault, Location, did_you_mean, dotted, faults_of_validation
from b2bua.media import sounds
from b2bua.net.certificates import faults_of_client, utc_now
from b2bua.numbers import NumberFormat, normalise
from b2bua.routing import hours as opening
from b2bua.routing.overflow import all_from, circles
from b2bua.sip.auth import ha1
from b2bua.store.directory import DirectoryChanged, DirectoryStore
from b2bua.toml_lines import LocatedToml
from b2bua.trunk_profiles import PROFILES, CallerSource, FromShows, Identity

ATTEMPTS = 5                           # when somebody else changes the directory at the same moment

Short = Annotated[str, Field(pattern=r"^[0-9*#]{1,12}$")]
Code = Annotated[str, Field(pattern=r"^([*#][0-9*#]{0,5})?$")]      # what no telephone number begins with
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Text = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
FilePath = Annotated[str, Field(max_length=1000, pattern=r"^(/[^\x00-\x1f\x7f]*)?$")]      # absolute, on the server
Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
Prefix = Annotated[str, Field(pattern=r"^\+?[0-9*#]{1,15}$")]
_PLAYED = f"{ANNOUNCEMENT}{sounds.NAME.pattern}"
Onward = Annotated[str, Field(pattern=rf"^([0-9*#]{{1,12}}|\+[0-9]{{5,15}}|{_PLAYED})$")]
SoundName = Annotated[str, Field(pattern=rf"^({sounds.NAME.pattern})?$")]
Reach = Annotated[str, Field(pattern=r"^(\+[0-9]{0,15}|[0-9*#]{1,12})$")]
CallerNumber = Annotated[str, Field(max_length=40, pattern=r"^[^\x00-\x1f\x7f]*$")]


_TELEPHONE = re.compile(r"\+?[0-9]{3,15}|[A-Za-z0-9._-]+")
_PROFILES = f"Known are {', '.join(PROFILES)}."


class Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class CrmEntry(Entry):
    base_url: str = Field(description="address of the account, https://NAME.amocrm.ru")
    token: SecretStr = Field(description="long-lived token of the integration", min_length=1)
    forward_to_responsible: bool = Field(default=True, description="the responsible user's phone rings first")
    set_caller_name: bool = Field(default=True, description="phones show the contact's name")
    pop_up: bool = Field(default=True, description="the card of the caller pops up")
    patience: float = Field(default=1.5, ge=0, le=10, description="seconds that a phone waits for the CRM, at most")
    responsible_ring_seconds: int = Field(default=20, ge=1, le=300,
        description="how long the responsible user's phone rings before others do")
    default_user: int | None = Field(default=None, ge=1, description="CRM user for whom there is no better one")

    @field_validator("base_url")
    @classmethod
    def _is_safe(cls, url: str) -> str:
        parts = urlsplit(url)
        if not parts.hostname or parts.scheme not in ("https", "http"):
            raise ValueError(f"{url!r} is no address of a CRM | Write it like https://NAME.amocrm.ru.")
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise ValueError("the token would cross the network in the clear | Use https://.")
        return url.rstrip("/")


class TrunkEntry(Entry):
    name: Word = Field(description="its name: letters, digits, . _ -")
    host: str = Field(description="the operator's server, name or address", pattern=r"^[A-Za-z0-9.:_-]{1,255}$")
    port: int | None = Field(default=None, ge=1, le=65535, description="its port; default: as DNS says (RFC 3263)")
    transport: Literal["udp", "tcp", "tls"] = Field(default="udp", description="how it is reached")
    networks: tuple[Network, ...] = Field(default=(), description="whence its calls come, beside `host`")
    register_: bool = Field(default=False, alias="register", description="register there, with `user` and `password`")
    user: Text = Field(default="", description="our user name there")
    password: SecretStr = Field(default=SecretStr(""), description="our password there")
    domain: Text = Field(default="", description="host part of our address there; default `host`")
    caller_id: CallerNumber = Field(default="", description="number that outgoing calls show; default: the client's")
    country: Country | None = Field(default=None, description="how national numbers are read; default: the client's")
    max_calls: int = Field(default=100, ge=1, le=100_000, description="calls at once on this line, both ways")
    priority: int = Field(default=0, ge=0, le=1000, description="outgoing calls try lower ones first")
    weight: int = Field(default=1, ge=1, le=1000, description="share of the calls, among trunks of one priority")
    prefixes: tuple[Prefix, ...] = Field(default=(), max_length=100,
        description="outgoing calls only to numbers that begin so, as \"+7495\"; default: to all")
    profile: str = Field(default="generic", description="the kind of operator, see below; what follows differs from it")
    number_format: NumberFormat | None = Field(default=None,
        description="numbers that we call: e164 (+7…), plain (7…), zeros (007…), national (8…), dialled")
    caller_format: NumberFormat | None = Field(default=None, description="the same for the caller id")
    identity: Identity | None = Field(default=None,
        description="caller id also in: none, p-asserted-identity, p-preferred-identity, remote-party-id")
    from_shows: FromShows | None = Field(default=None, description="From has our number, or our account there (`user`)")
    trusts: tuple[CallerSource, ...] | None = Field(default=None, min_length=1, max_length=4,
        description="who calls us is read from the first of these that has a number; the identity headers, and from")
    ca_file: FilePath = Field(default="",
        description="tls: certificates of who vouches for the operator's, PEM; default: the system's authorities")
    certificate: FilePath = Field(default="",
        description="tls: our certificate, PEM, for operators that demand one")
    certificate_key: FilePath = Field(default="", description="tls: the private key of `certificate`, PEM")

    @field_validator("profile")
    @classmethod
    def _is_known(cls, profile: str) -> str:
        if profile not in PROFILES:
            raise ValueError(f"there is no profile {profile!r} | {did_you_mean(profile, list(PROFILES), _PROFILES)}")
        return profile


class ExtensionEntry(Entry):
    number: Short = Field(description="what colleagues dial: digits, * and #, at most 12")
    login: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._@-]{1,100}$",
                              description="digest user name of the phone; default CLIENT-NUMBER")
    password: SecretStr | None = Field(default=None, description="of the phone, 8 characters or more; kept as a hash")
    name: Text = Field(default="", description="shown to whom this extension calls")
    crm_user: int | None = Field(default=None, ge=1, description="id of its user in the CRM")
    address: str | None = Field(default=None, pattern=r"^sips?:[^\s<>\"]+$",
                                description="a fixed SIP URI, for a phone that does not register")
    ascii_only: bool = Field(default=False, description="the phone cannot show UTF-8: names are transliterated")
    max_contacts: int = Field(default=5, ge=1, le=20, description="phones that may be registered at once")
    caller_id: CallerNumber = Field(default="",
        description="number that its outgoing calls show; default: the trunk's, else the client's")
    hide_caller_id: bool = Field(default=False, description="outgoing calls withhold the number (CLIR)")
    ring_seconds: int = Field(default=30, ge=1, le=300,
        description="how long it rings when a colleague dials it, or a call goes on to it")
    forward_always: Onward | None = Field(default=None,
        description="extension, group, +number or announcement where all its calls go instead")
    on_no_answer: Onward | None = Field(default=None,
        description="extension, group, +number or announcement where a call goes on that nobody answered")
    on_busy: Onward | None = Field(default=None, description="the same when it is busy, or declines")
    on_unregistered: Onward | None = Field(default=None, description="the same when no phone of it can be reached")
    max_calls: int = Field(default=10, ge=1, le=100_000, description="calls at once that its phones have made")
    outgoing_per_hour: int = Field(default=60, ge=0, le=100_000,
        description="outside calls within an hour that it dials, transfers or sends on")

    @field_validator("password")
    @classmethod
    def _is_long_enough(cls, password: SecretStr | None) -> SecretStr | None:
        if password is not None and not 8 <= len(password.get_secret_value()) <= 100:
            raise ValueError("a password has 8 to 100 characters | Give another one; phones are attacked by guessing.")
        return password


class GroupEntry(Entry):
    number: Short = Field(description="what colleagues dial: digits, * and #, at most 12")
    members: tuple[Short, ...] = Field(min_length=1, max_length=50,
        description="numbers of extensions, in their order")
    name: Text = Field(default="", description="of the group, for people")
    strategy: Strategy = Field(default=Strategy.TOGETHER,
        description="who rings first: together, in-turn, round, longest-idle; see below")
    member_seconds: int = Field(default=15, ge=1, le=300,
        description="how long each member rings, unless they ring together")
    ring_seconds: int = Field(default=30, ge=1, le=300,
        description="together: how long it rings when a colleague dials it, or a call goes on to it")
    on_no_answer: Onward | None = Field(default=None,
        description="extension, group, +number or announcement where a call goes on that nobody answered")
    on_busy: Onward | None = Field(default=None, description="the same when it is busy, or declines")
    on_unregistered: Onward | None = Field(default=None, description="the same when no phone of it can be reached")


class HoursEntry(Entry):
    time_zone: str = Field(description="whose clock counts, as \"Europe/Moscow\"", max_length=64)
    open: tuple[str, ...] = Field(min_length=1, max_length=50,
        description="weekdays and times, as \"mon-fri 09:00-18:00\"; until 24:00 at most, or past midnight")
    otherwise: Onward = Field(
        description="extension, group, +number or announcement where calls go outside of these hours")
    holidays: tuple[str, ...] = Field(default=(), max_length=400,
        description="closed all day: \"2026-05-11\", or \"01-01\" each year")

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if opening.zone(name) is None:
            near = did_you_mean(name, sorted(available_timezones()), "Write it like `Europe/Moscow`.")
            raise ValueError(f"there is no time zone {name!r} | {near}")
        return name

    @field_validator("open")
    @classmethod
    def _are_periods(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            try:
                opening.period(text)
            except ValueError:
                raise ValueError(f"{text!r} is no opening time | Write it like `mon-fri 09:00-18:00`; the days are "
                                 f"{', '.join(opening.DAYS)}.") from None
        return texts

    @field_validator("holidays")
    @classmethod
    def _are_days(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            try:
                opening.holiday(text)
            except ValueError:
                raise ValueError(f"{text!r} is no date | "
                                 "Write it like `2026-05-11`, or `01-01` for each year.") from None
        return texts


class NumberEntry(Entry):
    number: Text = Field(min_length=1, description="the outside number, with + and country")
    destination: Onward = Field(description="extension, group, +number or announcement where its calls go")
    trunk: Word | None = Field(default=None, description="only calls from this trunk; default: from any")
    ring_seconds: int = Field(default=30, ge=1, le=300,
        description="how long the destination rings; each member of a group that rings in turn has its own time")
    on_no_answer: Onward | None = Field(default=None,
        description="extension, group, +number or announcement for a call that nobody answered; "
                    "default: as the destination has it")
    on_busy: Onward | None = Field(default=None, description="the same when it is busy, or declines")
    on_unregistered: Onward | None = Field(default=None, description="the same when no phone of it can be reached")
    hours: HoursEntry | None = Field(default=None, description="when it is open; default: always")


class LimitEntry(Entry):
    prefix: Reach = Field(description="how these numbers begin: \"+882\", or the digits of a short one")
    max_calls: int | None = Field(default=None, ge=1, le=100_000, description="calls there at once; default: no limit")
    per_hour: int | None = Field(default=None, ge=1, le=100_000,
        description="calls there within an hour; default: no limit")
    refused: bool = Field(default=False, description="no calls there at all")


class ClientEntry(Entry):
    id: Word = Field(description="short name, for ever: letters, digits, . _ -")
    name: Text = Field(default="", description="for people; default: `id`")
    max_calls: int = Field(default=100, ge=1, le=100_000, description="calls at once")
    outgoing_per_hour: int = Field(default=600, ge=0, le=100_000, description="outside calls within an hour")
    record: bool = Field(default=True, description="record outside calls")
    country: Country = Field(default="RU", description="how national numbers are read (ISO 3166)")
    caller_id: CallerNumber = Field(default="",
        description="number that outgoing calls show, unless extension or trunk say another")
    forward_outside: bool = Field(default=False,
        description="extensions, and numbers with all their calls, may lead to outside numbers, at your cost")
    music_on_hold: SoundName = Field(default="",
        description="sound that who is put on hold hears; default: whatever the phone that holds sends")
    pickup_code: Code = Field(default="**",
        description="with a number after it, as **102: takes the call that rings there; \"\" lets nobody do that")
    group_pickup_code: Code = Field(default="*8",
        description="takes the call that has rung longest at a colleague of one of the dialler's groups; \"\": nobody")
    show_callers: bool = Field(default=False,
        description="whose phone watches a colleague's (BLF) sees with whom that one talks, and who calls there")
    crm: CrmEntry | None = Field(default=None, description="its amoCRM account; without it: no CRM")
    trunk: tuple[TrunkEntry, ...] = Field(default=(), description="lines to operators")
    extension: tuple[ExtensionEntry, ...] = Field(default=(), description="employees' numbers and phones")
    group: tuple[GroupEntry, ...] = Field(default=(), description="numbers that ring several extensions")
    number: tuple[NumberEntry, ...] = Field(default=(), description="outside numbers and where their calls go")
    limit: tuple[LimitEntry, ...] = Field(default=(), max_length=200,
        description="outgoing calls by how their numbers begin")


class DirectoryFile(Entry):
    client: tuple[ClientEntry, ...] = Field(default=(), description="firms on this server")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a file says, and where it says it."""

    directory: Directory
    toml: LocatedToml
    logins: Mapping[str, Location]     # login -> where its extension stands


@dataclass(frozen=True, slots=True)
class Change:
    sign: str                          # "+", "~", "-"
    what: str                          # "extension acme/101"
    fields: tuple[str, ...] = ()       # which changed; values may be secrets

    def __str__(self) -> str:
        return f"{self.sign} {self.what}" + (f": {', '.join(self.fields)}" if self.fields else "")


async def apply_file(store: DirectoryStore, path: Path, realm: str, *, known_sounds: Collection[str] = sounds.BUILT_IN,
                     dry_run: bool = False, prune: bool = False) -> list[Change]:
    """The differences, which are in the database when this returns, unless `dry_run`. Raises ConfigurationFaults."""
    wanted = read_directory(path, realm, known_sounds)
    for _ in range(ATTEMPTS):
        current, generation = await store.load()
        new = merged(current, wanted, prune=prune)
        changes = difference(current, new)
        if dry_run or not changes:
            return changes
        try:
            await store.replace(current, new, generation)
        except DirectoryChanged:
            continue
        return changes
    raise DirectoryChanged


def read_directory(path: Path, realm: str, known_sounds: Collection[str] = sounds.BUILT_IN) -> Wanted:
    """Raises ConfigurationFaults with everything that is wrong in the file. `known_sounds` are what it may name."""
    toml = read_toml(path, "Give the path of a file with [[client]] tables.")
    try:
        file = DirectoryFile.model_validate(toml.data)
    except ValidationError as error:
        raise ConfigurationFaults(faults_of_validation(error, DirectoryFile, toml)) from error
    review = _Review(toml, known_sounds)
    for index, entry in enumerate(file.client):
        review.client(entry, ("client", index))
    if review.faults:
        raise ConfigurationFaults(sorted(review.faults, key=lambda fault: fault.line or 0))
    return Wanted(_directory(file.client, realm), toml, review.logins)


def merged(current: Directory, wanted: Wanted, *, prune: bool) -> Directory:
    """Clients that are not named stay as they are, or go when `prune`. Raises ConfigurationFaults."""
    named = {client.id for client in wanted.directory.clients}
    kept = Directory() if prune else _without(current, named)
    faults = [
        Fault(wanted.toml.line(wanted.logins[login]), dotted(wanted.logins[login]),
              f"login {login!r} is taken: extension {taken.number} of client {taken.client!r} has it",
              "Logins are unique on the server; choose another one.")
        for login, taken in kept.by_login.items() if login in wanted.logins
    ]
    if faults:
        raise ConfigurationFaults(faults)
    new = wanted.directory
    return Directory(kept.clients + new.clients, kept.extensions + new.extensions, kept.trunks + new.trunks,
                     kept.groups + new.groups, kept.numbers + new.numbers)


def _without(directory: Directory, clients: set[ClientId]) -> Directory:
    return Directory(
        tuple(client for client in directory.clients if client.id not in clients),
        tuple(one for one in directory.extensions if one.client not in clients),
        tuple(one for one in directory.trunks if one.client not in clients),
        tuple(one for one in directory.groups if one.client not in clients),
        tuple(one for one in directory.numbers if one.client not in clients),
    )


def difference(old: Directory, new: Directory) -> list[Change]:
    before, after = dict(_named(old)), dict(_named(new))
    removed = [Change("-", what) for what in before if what not in after]
    added = [Change("+", what) for what in after if what not in before]
    changed = [Change("~", what, fields) for what in after if what in before
               if (fields := tuple(_changed(before[what], after[what])))]
    return removed + added + changed


def _named(directory: Directory) -> Iterator[tuple[str, Any]]:
    for client in directory.clients:
        yield f"client {client.id}", replace(client, crm=None)
        if client.crm is not None:
            yield f"CRM of {client.id}", client.crm
    for trunk in directory.trunks:
        yield f"trunk {trunk.client}/{trunk.name}", trunk
    for extension in directory.extensions:
        yield f"extension {extension.client}/{extension.number}", extension
    for group in directory.groups:
        yield f"group {group.client}/{group.number}", group
    for number in directory.numbers:
        yield f"number {number.client}/{number.number}", number


def _changed(old: Any, new: Any) -> Iterable[str]:
    return ("password" if name == "ha1" else name for name in type(new).__dataclass_fields__
            if getattr(old, name) != getattr(new, name))


def login_of(client: ClientEntry, extension: ExtensionEntry) -> str:
    return extension.login or f"{client.id}-{extension.number}"


def _directory(entries: Iterable[ClientEntry], realm: str) -> Directory:
    clients, trunks, extensions, groups, numbers = [], [], [], [], []
    for entry in entries:
        client = ClientId(entry.id)
        clients.append(Client(client, entry.name or entry.id, _crm(entry.crm), entry.max_calls, entry.record,
                              entry.country, _caller_id(entry.caller_id, entry.country), entry.forward_outside,
                              entry.outgoing_per_hour, tuple(PrefixLimit(**one.model_dump()) for one in entry.limit),
                              entry.music_on_hold, entry.pickup_code, entry.group_pickup_code, entry.show_callers))
        trunks += [_trunk(client, trunk, entry.country) for trunk in entry.trunk]
        extensions += [_extension(client, one, login_of(entry, one), realm, entry.country) for one in entry.extension]
        groups += [Group(client, one.number, one.members, one.name, one.strategy, one.member_seconds, one.ring_seconds,
                         one.on_no_answer, one.on_busy, one.on_unregistered) for one in entry.group]
        numbers += [Number(client, normalise(one.number, entry.country), one.destination, one.trunk, one.ring_seconds,
                           one.on_no_answer, one.on_busy, one.on_unregistered, _hours(one.hours))
                    for one in entry.number]
    return Directory(tuple(clients), tuple(extensions), tuple(trunks), tuple(groups), tuple(numbers))


def _hours(entry: HoursEntry | None) -> Hours | None:
    return Hours(entry.time_zone, entry.open, entry.otherwise, entry.holidays) if entry is not None else None


def _crm(entry: CrmEntry | None) -> CrmAccount | None:
    if entry is None:
        return None
    return CrmAccount(**{**entry.model_dump(), "token": entry.token.get_secret_value()})


def _trunk(client: ClientId, entry: TrunkEntry, country: str) -> Trunk:
    country = entry.country or country
    return Trunk(client, entry.name, entry.host, entry.port, entry.transport.upper(), entry.networks, entry.register_,
                 entry.user, entry.password.get_secret_value(), entry.domain,
                 _caller_id(entry.caller_id, country), country, entry.max_calls, entry.priority, entry.weight,
                 entry.prefixes, entry.profile, entry.number_format, entry.caller_format, entry.identity,
                 entry.from_shows, entry.trusts,
                 entry.ca_file, entry.certificate, entry.certificate_key)


def _caller_id(number: str, country: str) -> str:
    return normalise(number, country) if number else ""


def _extension(client: ClientId, entry: ExtensionEntry, login: str, realm: str, country: str) -> Extension:
    hashes = {} if entry.password is None else {
        algorithm: ha1(algorithm, login, realm, entry.password.get_secret_value()) for algorithm in ("MD5", "SHA-256")}
    return Extension(client, entry.number, login, hashes, entry.name, entry.crm_user, entry.address, entry.ascii_only,
                     entry.max_contacts, _caller_id(entry.caller_id, country), entry.hide_caller_id, entry.ring_seconds,
                     entry.forward_always, entry.on_no_answer, entry.on_busy, entry.on_unregistered,
                     entry.max_calls, entry.outgoing_per_hour)


@dataclass(slots=True)
class _Review:
    """What one entry says of another."""

    toml: LocatedToml
    sounds: Collection[str]
    faults: list[Fault] = field(default_factory=list)
    clients: dict[str, Location] = field(default_factory=dict)
    logins: dict[str, Location] = field(default_factory=dict)

    def client(self, entry: ClientEntry, at: Location) -> None:
        self._once(self.clients, entry.id, (*at, "id"), f"client {entry.id!r} is in the file already")
        self._caller_id(entry.caller_id, entry.country, at)
        self._sound(entry.music_on_hold, (*at, "music_on_hold"))
        for index, one in enumerate(entry.extension):
            self._caller_id(one.caller_id, entry.country, (*at, "extension", index))
        for index, line in enumerate(entry.trunk):
            self._caller_id(line.caller_id, line.country or entry.country, (*at, "trunk", index))
        for index, trunk in enumerate(entry.trunk):
            self._trunk(trunk, (*at, "trunk", index))
        self._unique("trunk", [(trunk.name, (*at, "trunk", i, "name")) for i, trunk in enumerate(entry.trunk)])
        self._unique("number", [(one.number, (*at, "extension", i, "number")) for i, one in enumerate(entry.extension)]
                     + [(one.number, (*at, "group", i, "number")) for i, one in enumerate(entry.group)])
        self._unique("CRM user", [(str(one.crm_user), (*at, "extension", i, "crm_user"))
                                  for i, one in enumerate(entry.extension) if one.crm_user is not None])
        self._unique("number", [(normalise(one.number, entry.country), (*at, "number", i, "number"))
                                for i, one in enumerate(entry.number)])
        self._unique("limit", [(one.prefix, (*at, "limit", i, "prefix")) for i, one in enumerate(entry.limit)])
        for index, limit in enumerate(entry.limit):
            self._limit(limit, (*at, "limit", index))
        for index, extension in enumerate(entry.extension):
            self._extension(entry, extension, (*at, "extension", index))
        self._groups(entry, at)
        self._numbers(entry, at)
        self._overflow(entry, at)

    def _caller_id(self, number: str, country: str, at: Location) -> None:
        if number and not _TELEPHONE.fullmatch(normalise(number, country)):
            self._fault((*at, "caller_id"), f"{number!r} is no telephone number",
                        "Write a number of yours, best with + and country; `hide_caller_id` withholds it.")

    def _trunk(self, trunk: TrunkEntry, at: Location) -> None:
        if trunk.register_ and not (trunk.user and trunk.password.get_secret_value()):
            self._fault((*at, "register"), f"trunk {trunk.name!r} cannot register without credentials",
                        "Add `user` and `password`, as the operator gave them.")
        from_shows = trunk.from_shows or PROFILES[trunk.profile].from_shows
        if from_shows is FromShows.ACCOUNT and not trunk.user:
            self._fault((*at, "from_shows" if trunk.from_shows else "profile"),
                        f"trunk {trunk.name!r} has no account that From could show",
                        "Add `user`, as the operator gave it.")
        if trunk.trusts is not None and len(set(trunk.trusts)) < len(trunk.trusts):
            self._fault((*at, "trusts"), "a header is named twice", "Name each one once.")
        for name in ("ca_file", "certificate", "certificate_key"):
            if getattr(trunk, name) and trunk.transport != "tls":
                self._fault((*at, name), f"trunk {trunk.name!r} does not go by TLS, so `{name}` would be without use",
                            'Say `transport = "tls"`, or take it out.')
        if bool(trunk.certificate) != bool(trunk.certificate_key):
            self._fault((*at, "certificate_key" if trunk.certificate_key else "certificate"),
                        f"trunk {trunk.name!r} has only one of certificate and key", "Name both files, or neither.")
        if trunk.transport == "tls":
            for fault in faults_of_client(trunk.ca_file, trunk.certificate, trunk.certificate_key, utc_now()):
                self._fault((*at, "certificate_key" if fault.setting == "key" else fault.setting),
                            fault.problem, fault.remedy)

    def _extension(self, client: ClientEntry, extension: ExtensionEntry, at: Location) -> None:
        login = login_of(client, extension)
        self._once(self.logins, login, (*at, "login"), f"login {login!r} is in the file already")
        if extension.password is None and extension.address is None:
            self._fault(at, f"extension {extension.number} has neither a password nor a fixed address",
                        "Add `password = …` for phones that register, or `address = \"sip:…\"`.")

    def _limit(self, limit: LimitEntry, at: Location) -> None:
        bounds = (limit.max_calls, limit.per_hour) != (None, None)
        if limit.refused and bounds:
            self._fault((*at, "refused"), f"calls to {limit.prefix} cannot be refused and counted as well",
                        "Take one of the two out.")
        elif not limit.refused and not bounds:
            self._fault(at, f"the limit for {limit.prefix} limits nothing",
                        "Add `max_calls`, `per_hour` or `refused = true`.")

    def _groups(self, client: ClientEntry, at: Location) -> None:
        known = {extension.number for extension in client.extension}
        for index, group in enumerate(client.group):
            for place, member in enumerate(group.members):
                if member not in known:
                    self._fault((*at, "group", index, "members", place), f"there is no extension {member}",
                                f"Extensions of {client.id!r}: {_listed(known)}.")
            if len(set(group.members)) < len(group.members):
                self._fault((*at, "group", index, "members"), "a member is named twice", "Name each one once.")
            if "member_seconds" in group.model_fields_set and group.strategy is Strategy.TOGETHER:
                self._fault((*at, "group", index, "member_seconds"),
                            f"the members of {group.number} ring together, so no one has a time of their own",
                            'Take it out, or choose another `strategy`, as "in-turn".')
            if "ring_seconds" in group.model_fields_set and group.strategy is not Strategy.TOGETHER:
                self._fault((*at, "group", index, "ring_seconds"),
                            f"the members of {group.number} ring one after another, each for `member_seconds`",
                            'Take it out, or say `strategy = "together"`.')

    def _numbers(self, client: ClientEntry, at: Location) -> None:
        targets = {one.number for one in client.extension} | {one.number for one in client.group}
        trunks = {trunk.name for trunk in client.trunk}
        for index, number in enumerate(client.number):
            place = (*at, "number", index)
            if number.destination.startswith(ANNOUNCEMENT):
                self._sound(number.destination.removeprefix(ANNOUNCEMENT), (*place, "destination"))
                for cause in _onward(number):
                    self._fault((*place, cause.value), f"{number.destination} takes every call, so none goes on",
                                "Take it out, or name the extension or group that shall ring before.")
            elif _is_outside(number.destination):
                self._leads_outside(client, f"number {number.number}", number.destination, (*place, "destination"))
            elif number.destination not in targets:
                self._fault((*place, "destination"), f"there is no extension or group {number.destination}",
                            f"Known in {client.id!r}: {_listed(targets)}; outside numbers begin with +.")
            if number.trunk is not None and number.trunk not in trunks:
                self._fault((*place, "trunk"), f"there is no trunk {number.trunk!r}",
                            f"Trunks of {client.id!r}: {_listed(trunks)}.")
            if not _TELEPHONE.fullmatch(normalise(number.number, client.country)):
                self._fault((*place, "number"), f"{number.number!r} is no telephone number",
                            "Write it as the operator sends it, best with + and country.")

    def _overflow(self, client: ClientEntry, at: Location) -> None:
        """Each target is there, and from none of them a call comes back to where it has been."""
        inside: dict[str, tuple[ExtensionEntry | GroupEntry, Location]] = {}
        inside |= {one.number: (one, (*at, "extension", index)) for index, one in enumerate(client.extension)}
        inside |= {one.number: (one, (*at, "group", index)) for index, one in enumerate(client.group)}
        numbers = [(one, (*at, "number", index)) for index, one in enumerate(client.number)]
        for one, place in (*inside.values(), *numbers):
            # What a group or a number says of calls that nobody took is the office's own, and needs no leave.
            whose = f"extension {one.number}" if isinstance(one, ExtensionEntry) else None
            for cause, target in _onward(one).items():
                self._target(client, inside, whose, target, (*place, cause.value))
        for number, place in numbers:
            if number.hours is not None:
                whose, otherwise = f"number {number.number}", number.hours.otherwise
                self._target(client, inside, whose, otherwise, (*place, "hours", "otherwise"))
        ways = {number: _onward(one) for number, (one, _) in inside.items()}
        for begin, cause, way in circles(ways):
            self._fault((*inside[begin][1], cause.value), f"calls would go in a circle: {', '.join(way)}",
                        "Take one of these out, or have it lead to somebody else.")
        for number, place in numbers:
            for cause, target in _onward(number).items():
                if number.destination in all_from(ways, target):
                    self._fault((*place, cause.value), f"from {target} calls would come back to {number.destination}",
                                "Have one of the two lead to somebody else.")

    def _target(self, client: ClientEntry, inside: Iterable[str], whose: str | None, target: str, at: Location) -> None:
        """`whose`: who needs leave to send calls outside."""
        if _is_outside(target):
            self._leads_outside(client, whose, target, at)
        elif target.startswith(ANNOUNCEMENT):
            self._sound(target.removeprefix(ANNOUNCEMENT), at)
        elif target not in inside:
            self._fault(at, f"there is no extension or group {target}",
                        f"Known in {client.id!r}: {_listed(set(inside))}; outside numbers begin with +.")

    def _sound(self, name: str, at: Location) -> None:
        if name and name not in self.sounds:
            self._fault(at, f"there is no sound {name!r}", f"Known are {_listed(set(self.sounds))}; "
                        "a WAV file in the directory `media.sounds` of smartswitch.toml adds one.")

    def _leads_outside(self, client: ClientEntry, whose: str | None, target: str, at: Location) -> None:
        own = {normalise(one.number, client.country): one.destination for one in client.number}
        if target in own:
            there = "an extension, a group or a number of somebody else" if own[target] in own else own[target]
            self._fault(at, f"{target} is a number of {client.id!r} itself: its calls would come in again",
                        f"Name where it leads: {there}.")
        elif not client.trunk:
            self._fault(at, f"{target} is outside, and {client.id!r} has no trunk", "Add a [[client.trunk]].")
        elif whose is not None and not client.forward_outside:
            shall = whose.partition(" ")[0]
            self._fault(at, f"{whose} may not send its calls outside",
                        f"Say `forward_outside = true` for client {client.id!r}, if its {shall}s shall.")

    def _unique(self, what: str, found: Iterable[tuple[str, Location]]) -> None:
        seen: dict[str, Location] = {}
        for name, at in found:
            self._once(seen, name, at, f"{what} {name} is there already")

    def _once(self, seen: dict[str, Location], name: str, at: Location, problem: str) -> None:
        if name in seen:
            line = self.toml.line(seen[name])
            self._fault(at, f"{problem}, in line {line}", "Keep one of the two.")
        else:
            seen[name] = at

    def _fault(self, at: Location, problem: str, remedy: str) -> None:
        self.faults.append(Fault(self.toml.line(at), dotted(at), problem, remedy))


def _is_outside(target: str) -> bool:
    return target.startswith("+")


def _onward(one: ExtensionEntry | GroupEntry | NumberEntry) -> dict[Cause, str]:
    return {cause: target for cause in Cause if (target := getattr(one, cause.value, None)) is not None}


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none yet"
