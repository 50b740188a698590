"""What the entries of an apply file say of one another: every fault at once, with its line and its remedy."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from b2bua.apply.entries import (
    ClientEntry,
    CrmEntry,
    ExtensionEntry,
    GroupEntry,
    LimitEntry,
    NumberEntry,
    TrunkEntry,
    login_of,
)
from b2bua.apply.toml_lines import LocatedToml
from b2bua.directory import ANNOUNCEMENT, OPERATOR_LOGIN, Cause, Strategy, UsersFrom
from b2bua.faults import Fault, Location, dotted
from b2bua.net.certificates import faults_of_client, utc_now
from b2bua.numbers import is_telephone, normalise
from b2bua.phrases import Phrase
from b2bua.routing.overflow import all_from, circles
from b2bua.trunk_profiles import PROFILES, FromShows

MOST_LISTED = 30                       # names that a remedy offers
_NO_TARGET = "there is no extension or group {target}"
_TARGETS = "Known in {client!r}: {known}; outside numbers begin with +."
_MAY_NOT = {
    "extension": "extension {number} may not send its calls outside",
    "number": "number {number} may not send its calls outside",
}
_SHALL = {
    "extension": "Say `forward_outside = true` for client {client!r}, if its extensions shall.",
    "number": "Say `forward_outside = true` for client {client!r}, if its numbers shall.",
}
_TELEPHONE = re.compile(r"\+?[0-9]{3,15}|[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Finding:
    at: Location                       # of a DirectoryFile
    problem: str
    remedy: str


@dataclass(slots=True)
class Review:
    """What one entry says of another."""

    toml: LocatedToml
    sounds: Collection[str]
    kept: Collection[str] = ()         # logins of phones whose passwords are in the database, and stay
    findings: list[Finding] = field(default_factory=list)
    clients: dict[str, Location] = field(default_factory=dict)
    client_logins: dict[str, Location] = field(default_factory=dict)
    logins: dict[str, Location] = field(default_factory=dict)
    _own: Mapping[str, str] = field(default_factory=dict)          # numbers of the client at hand -> destination
    _targets: str = ""                                             # its extensions and groups, in words

    @property
    def faults(self) -> list[Fault]:
        return [Fault(self.toml.line(one.at), dotted(one.at), one.problem, one.remedy) for one in self.findings]

    def client(self, entry: ClientEntry, at: Location) -> None:
        self._once(self.clients, entry.id, (*at, "id"), "client {name!r} is there already")
        if self.clients[entry.id] == (*at, "id"):
            self._once(self.client_logins, entry.own_login, (*at, "id" if entry.login is None else "login"),
                       "another client has the login {name!r}")
        if entry.own_login == OPERATOR_LOGIN:
            self._fault((*at, "id" if entry.login is None else "login"), "{login!r} signs the operator in",
                        "Choose another `login`.", login=OPERATOR_LOGIN)
        self._own = {normalise(one.number, entry.country): one.destination for one in entry.number}
        self._targets = _listed({one.number for one in entry.extension} | {one.number for one in entry.group})
        self._caller_id(entry.caller_id, entry.country, at)
        self._sound(entry.music_on_hold, (*at, "music_on_hold"))
        for index, one in enumerate(entry.extension):
            self._caller_id(one.caller_id, entry.country, (*at, "extension", index))
        for index, line in enumerate(entry.trunk):
            self._caller_id(line.caller_id, line.country or entry.country, (*at, "trunk", index))
        for index, trunk in enumerate(entry.trunk):
            self._trunk(trunk, (*at, "trunk", index))
        self._unique("trunk {name} is there already",
                     [(trunk.name, (*at, "trunk", i, "name")) for i, trunk in enumerate(entry.trunk)])
        self._unique("number {name} is there already",
                     [(one.number, (*at, "extension", i, "number")) for i, one in enumerate(entry.extension)]
                     + [(one.number, (*at, "group", i, "number")) for i, one in enumerate(entry.group)])
        self._unique("CRM user {name} is there already",
                     [(str(one.crm_user), (*at, "extension", i, "crm_user")) for i, one in enumerate(entry.extension)
                      if one.crm_user is not None])
        self._unique("number {name} is there already",
                     [(normalise(one.number, entry.country), (*at, "number", i, "number"))
                      for i, one in enumerate(entry.number)])
        self._unique("limit {name} is there already",
                     [(one.prefix, (*at, "limit", i, "prefix")) for i, one in enumerate(entry.limit)])
        for index, limit in enumerate(entry.limit):
            self._limit(limit, (*at, "limit", index))
        for index, extension in enumerate(entry.extension):
            self._extension(entry, extension, (*at, "extension", index))
        if entry.crm is not None:
            self._crm(entry, entry.crm, (*at, "crm"))
        self._groups(entry, at)
        self._numbers(entry, at)
        self._overflow(entry, at)

    def _caller_id(self, number: str, country: str, at: Location) -> None:
        if number and not _TELEPHONE.fullmatch(normalise(number, country)):
            self._fault((*at, "caller_id"), "{number!r} is no telephone number",
                        "Write a number of yours, best with + and country; `hide_caller_id` withholds it.",
                        number=number)

    def _trunk(self, trunk: TrunkEntry, at: Location) -> None:
        if trunk.register_ and not (trunk.user and trunk.password.get_secret_value()):
            self._fault((*at, "register"), "trunk {trunk!r} cannot register without credentials",
                        "Add `user` and `password`, as the operator gave them.", trunk=trunk.name)
        from_shows = trunk.from_shows or PROFILES[trunk.profile].from_shows
        if from_shows is FromShows.ACCOUNT and not trunk.user:
            self._fault((*at, "from_shows" if trunk.from_shows else "profile"),
                        "trunk {trunk!r} has no account that From could show",
                        "Add `user`, as the operator gave it.", trunk=trunk.name)
        if trunk.trusts is not None and len(set(trunk.trusts)) < len(trunk.trusts):
            self._fault((*at, "trusts"), "a header is named twice", "Name each one once.")
        for name in ("ca_file", "certificate", "certificate_key"):
            if getattr(trunk, name) and trunk.transport != "tls":
                self._fault((*at, name), "trunk {trunk!r} does not go by TLS, so `{name}` would be without use",
                            'Say `transport = "tls"`, or take it out.', trunk=trunk.name, name=name)
        if bool(trunk.certificate) != bool(trunk.certificate_key):
            self._fault((*at, "certificate_key" if trunk.certificate_key else "certificate"),
                        "trunk {trunk!r} has only one of certificate and key",
                        "Name both files, or neither.", trunk=trunk.name)
        if trunk.transport == "tls":
            for fault in faults_of_client(trunk.ca_file, trunk.certificate, trunk.certificate_key, utc_now()):
                setting = "certificate_key" if fault.setting == "key" else fault.setting
                self.findings.append(Finding((*at, setting), fault.problem, fault.remedy))

    def _extension(self, client: ClientEntry, extension: ExtensionEntry, at: Location) -> None:
        login = login_of(client, extension)
        self._once(self.logins, login, (*at, "login"), "login {name!r} is there already")
        if extension.password is None and extension.address is None and login not in self.kept:
            self._fault((*at, "password"), "extension {number} has neither a password nor a fixed address",
                        'Add `password = …` for phones that register, or `address = "sip:…"`.',
                        number=extension.number)

    def _limit(self, limit: LimitEntry, at: Location) -> None:
        bounds = (limit.max_calls, limit.per_hour) != (None, None)
        if limit.refused and bounds:
            self._fault((*at, "refused"), "calls to {prefix} cannot be refused and counted as well",
                        "Take one of the two out.", prefix=limit.prefix)
        elif not limit.refused and not bounds:
            self._fault(at, "the limit for {prefix} limits nothing",
                        "Add `max_calls`, `per_hour` or `refused = true`.", prefix=limit.prefix)

    def _crm(self, client: ClientEntry, crm: CrmEntry, at: Location) -> None:
        own = set(self._own)
        dids = [(normalise(one.number, client.country), (*at, "did", i)) for i, one in enumerate(crm.did)]
        untold = [(normalise(one, client.country), (*at, "not_told", i)) for i, one in enumerate(crm.not_told)]
        self._unique("number {name} is there already", [(number, (*place, "number")) for number, place in dids])
        self._unique("number {name} is there already", untold)
        if crm.users_from is UsersFrom.WIDGET and not crm.widget:
            self._fault((*at, "users_from"), "users come from the widget, but none is named",
                        'Add `widget`, its code in amoCRM, or say `users_from = "file"`.')
        for (number, place), written in zip(untold, crm.not_told, strict=True):
            if not is_telephone(number):
                self._fault(place, "{number!r} is no outside number",
                            "Write it with + and country; short numbers, colleagues and withheld numbers are "
                            "told to no CRM anyway.", number=written)
        for (number, place), one in zip(dids, crm.did, strict=True):
            if number not in own:
                self._fault((*place, "number"), "{number} is no number of {client!r}",
                            "Its numbers: {known}.", number=one.number, client=client.id, known=_listed(own))
            for name in ("outgoing_answered", "outgoing_unanswered"):
                if name in one.model_fields_set:
                    self._fault((*place, name), "calls out are to no number of ours, so `{name}` would be without use",
                                "Say it in [client.crm.rules].", name=name)

    def _groups(self, client: ClientEntry, at: Location) -> None:
        known = {extension.number for extension in client.extension}
        for index, group in enumerate(client.group):
            for place, member in enumerate(group.members):
                if member not in known:
                    self._fault((*at, "group", index, "members", place), "there is no extension {number}",
                                "Extensions of {client!r}: {known}.", number=member, client=client.id,
                                known=_listed(known))
            if len(set(group.members)) < len(group.members):
                self._fault((*at, "group", index, "members"), "a member is named twice", "Name each one once.")
            if "member_seconds" in group.model_fields_set and group.strategy is Strategy.TOGETHER:
                self._fault((*at, "group", index, "member_seconds"),
                            "the members of {group} ring together, so no one has a time of their own",
                            'Take it out, or choose another `strategy`, as "in-turn".', group=group.number)
            if "ring_seconds" in group.model_fields_set and group.strategy is not Strategy.TOGETHER:
                self._fault((*at, "group", index, "ring_seconds"),
                            "the members of {group} ring one after another, each for `member_seconds`",
                            'Take it out, or say `strategy = "together"`.', group=group.number)

    def _numbers(self, client: ClientEntry, at: Location) -> None:
        targets = {one.number for one in client.extension} | {one.number for one in client.group}
        trunks = {trunk.name for trunk in client.trunk}
        for index, number in enumerate(client.number):
            place = (*at, "number", index)
            if number.destination.startswith(ANNOUNCEMENT):
                self._sound(number.destination.removeprefix(ANNOUNCEMENT), (*place, "destination"))
                for cause in _onward(number):
                    self._fault((*place, cause.value), "{target} takes every call, so none goes on",
                                "Take it out, or name the extension or group that shall ring before.",
                                target=number.destination)
            elif _is_outside(number.destination):
                self._leads_outside(client, f"number {number.number}", number.destination, (*place, "destination"))
            elif number.destination not in targets:
                self._fault((*place, "destination"), _NO_TARGET, _TARGETS, target=number.destination,
                            client=client.id, known=self._targets)
            if number.trunk is not None and number.trunk not in trunks:
                self._fault((*place, "trunk"), "there is no trunk {trunk!r}",
                            "Trunks of {client!r}: {known}.", trunk=number.trunk, client=client.id,
                            known=_listed(trunks))
            if not _TELEPHONE.fullmatch(normalise(number.number, client.country)):
                self._fault((*place, "number"), "{number!r} is no telephone number",
                            "Write it as the operator sends it, best with + and country.", number=number.number)

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
            self._fault((*inside[begin][1], cause.value), "calls would go in a circle: {way}",
                        "Take one of these out, or have it lead to somebody else.", way=", ".join(way))
        for number, place in numbers:
            for cause, target in _onward(number).items():
                if number.destination in all_from(ways, target):
                    self._fault((*place, cause.value), "from {target} calls would come back to {destination}",
                                "Have one of the two lead to somebody else.", target=target,
                                destination=number.destination)

    def _target(self, client: ClientEntry, inside: Iterable[str], whose: str | None, target: str, at: Location) -> None:
        """`whose`: who needs leave to send calls outside."""
        if _is_outside(target):
            self._leads_outside(client, whose, target, at)
        elif target.startswith(ANNOUNCEMENT):
            self._sound(target.removeprefix(ANNOUNCEMENT), at)
        elif target not in inside:
            self._fault(at, _NO_TARGET, _TARGETS, target=target, client=client.id, known=self._targets)

    def _sound(self, name: str, at: Location) -> None:
        if name and name not in self.sounds:
            self._fault(at, "there is no sound {name!r}",
                        "Known are {known}; a WAV file in the directory `media.sounds` of smartswitch.toml adds "
                        "one.", name=name, known=_listed(set(self.sounds)))

    def _leads_outside(self, client: ClientEntry, whose: str | None, target: str, at: Location) -> None:
        own = self._own
        if target in own:
            self._fault(at, "{target} is a number of {client!r} itself: its calls would come in again",
                        "Name where it leads: an extension, a group or a number of somebody else."
                        if own[target] in own else "Name where it leads: {there}.",
                        target=target, client=client.id, there=own[target])
        elif not client.trunk:
            self._fault(at, "{target} is outside, and {client!r} has no trunk",
                        "Add a [[client.trunk]].", target=target, client=client.id)
        elif whose is not None and not client.forward_outside:
            kind, _, number = whose.partition(" ")
            self._fault(at, _MAY_NOT[kind], _SHALL[kind], number=number, client=client.id)

    def _unique(self, problem: str, found: Iterable[tuple[str, Location]]) -> None:
        seen: dict[str, Location] = {}
        for name, at in found:
            self._once(seen, name, at, problem)

    def _once(self, seen: dict[str, Location], name: str, at: Location, problem: str) -> None:
        if name in seen:
            line = self.toml.line(seen[name])
            where = f", in line {line}" if line is not None else ""
            self._fault(at, problem + where, "Keep one of the two.", name=name)
        else:
            seen[name] = at

    def _fault(self, at: Location, problem: str, remedy: str, **values: str) -> None:
        """Both are templates of these values."""
        self.findings.append(Finding(at, Phrase(problem, **values), Phrase(remedy, **values)))


def _is_outside(target: str) -> bool:
    return target.startswith("+")


def _onward(one: ExtensionEntry | GroupEntry | NumberEntry) -> dict[Cause, str]:
    return {cause: target for cause in Cause if (target := getattr(one, cause.value, None)) is not None}


def _listed(names: set[str]) -> str:
    first = sorted(names)[:MOST_LISTED]
    return ", ".join(first + ["…"] * (len(names) > MOST_LISTED)) or "none yet"
