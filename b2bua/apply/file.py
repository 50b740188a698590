"""Brings clients, trunks, numbers, extensions and groups to what a TOML file says: all checked first, then at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import ValidationError

from b2bua.apply.crm import functions_of
from b2bua.apply.difference import Change, difference
from b2bua.apply.entries import ClientEntry, CrmEntry, DirectoryFile, ExtensionEntry, HoursEntry, TrunkEntry, login_of
from b2bua.apply.review import Review
from b2bua.apply.toml_lines import LocatedToml
from b2bua.cdr import ClientId
from b2bua.config import read_toml
from b2bua.directory import (
    Client,
    CrmAccount,
    Directory,
    Extension,
    Group,
    Hours,
    Number,
    PrefixLimit,
    Trunk,
    UsersFrom,
)
from b2bua.faults import ConfigurationFaults, Fault, Location, dotted, faults_of_validation
from b2bua.keys import is_argon2id
from b2bua.media import sounds
from b2bua.numbers import normalise
from b2bua.sip.auth import ha1
from b2bua.store.directory import DirectoryChanged, DirectoryStore

ATTEMPTS = 5                           # when somebody else changes the directory at the same moment


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a file says, and where it says it."""

    directory: Directory
    toml: LocatedToml
    logins: Mapping[str, Location]     # login -> where its extension stands
    client_logins: Mapping[str, Location]
    passwords: Mapping[ClientId, str] = field(repr=False)      # of clients; plain, or hashes


async def apply_file(store: DirectoryStore, path: Path, realm: str, *, known_sounds: Collection[str] = sounds.BUILT_IN,
                     dry_run: bool = False, prune: bool = False, who: str = "") -> list[Change]:
    """The differences, which are in the database when this returns, unless `dry_run`; `who` is kept beside them.
    Raises ConfigurationFaults."""
    wanted = read_directory(path, realm, known_sounds)
    for _ in range(ATTEMPTS):
        current, generation = await store.load()
        new = merged(current, wanted, prune=prune)
        changes = difference(current, new)
        if dry_run or not changes:
            return changes
        try:
            await store.replace(current, new, generation, who)
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
    review = Review(toml, known_sounds)
    for index, entry in enumerate(file.client):
        review.client(entry, ("client", index))
    if review.faults:
        raise ConfigurationFaults(sorted(review.faults, key=lambda fault: fault.line or 0))
    passwords = {ClientId(entry.id): entry.password.get_secret_value() for entry in file.client if entry.password}
    return Wanted(directory_of(file.client, realm), toml, review.logins, review.client_logins, passwords)


def merged(current: Directory, wanted: Wanted, *, prune: bool) -> Directory:
    """Clients that are not named stay as they are, or go when `prune`. Raises ConfigurationFaults."""
    named = {client.id for client in wanted.directory.clients}
    kept = Directory() if prune else _without(current, named)
    faults = [
        Fault(wanted.toml.line(wanted.logins[login]), dotted(wanted.logins[login]),
              f"login {login!r} is taken: extension {taken.number} of client {taken.client!r} has it",
              "Logins are unique on the server; choose another one.")
        for login, taken in kept.by_login.items() if login in wanted.logins
    ] + [
        Fault(wanted.toml.line(wanted.client_logins[login]), dotted(wanted.client_logins[login]),
              f"client {taken.id!r} has the login {login!r}", "Choose another `login`; they are unique on the server.")
        for login, taken in kept.client_by_login.items() if login in wanted.client_logins
    ]
    if faults:
        raise ConfigurationFaults(faults)
    new = wanted.directory
    clients = tuple(as_it_was(client, current.client.get(client.id), wanted.passwords.get(client.id, ""))
                    for client in new.clients)
    return Directory(kept.clients + clients, kept.extensions + new.extensions, kept.trunks + new.trunks,
                     kept.groups + new.groups, kept.numbers + new.numbers)


def as_it_was(client: Client, before: Client | None, password: str) -> Client:
    """What no file says: the hash of a password has a salt, so that it stays while the password does, and so does the
    account that the widget was connected to."""
    hashed = before.password_hash if before is not None else ""
    if not password or is_argon2id(password):
        hashed = password
    elif not _opens(hashed, password):
        hashed = PasswordHasher().hash(password)
    crm = client.crm
    if crm is not None and before is not None and before.crm is not None and before.crm.base_url == crm.base_url:
        crm = replace(crm, account=before.crm.account)
    return replace(client, crm=crm, password_hash=hashed)


def _opens(hashed: str, password: str) -> bool:
    try:
        return PasswordHasher().verify(hashed, password)
    except (VerificationError, InvalidHashError):
        return False


def _without(directory: Directory, clients: set[ClientId]) -> Directory:
    return Directory(
        tuple(client for client in directory.clients if client.id not in clients),
        tuple(one for one in directory.extensions if one.client not in clients),
        tuple(one for one in directory.trunks if one.client not in clients),
        tuple(one for one in directory.groups if one.client not in clients),
        tuple(one for one in directory.numbers if one.client not in clients),
    )


def directory_of(entries: Iterable[ClientEntry], realm: str) -> Directory:
    clients, trunks, extensions, groups, numbers = [], [], [], [], []
    for entry in entries:
        client = ClientId(entry.id)
        clients.append(Client(client, entry.name or entry.id, _crm(entry.crm, entry.country), entry.max_calls,
                              entry.record, entry.country, _caller_id(entry.caller_id, entry.country),
                              entry.forward_outside, entry.outgoing_per_hour,
                              tuple(PrefixLimit(**one.model_dump()) for one in entry.limit),
                              entry.music_on_hold, entry.pickup_code, entry.group_pickup_code, entry.show_callers,
                              entry.click2call_answer_after, entry.own_login))
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


def _crm(entry: CrmEntry | None, country: str) -> CrmAccount | None:
    if entry is None:
        return None
    return CrmAccount(entry.base_url, entry.token.get_secret_value(), functions_of(entry, country), entry.patience,
                      entry.responsible_ring_seconds, entry.default_user, entry.sync, entry.sync_minutes,
                      entry.sync_cards, entry.webhooks, entry.client_id, entry.client_secret.get_secret_value(),
                      entry.redirect_uri, entry.widget,
                      entry.users_from or (UsersFrom.WIDGET if entry.widget else UsersFrom.FILE))


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
