"""What the entries of an apply file say of one another: every fault at once, with its line and its remedy."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from b2bua.apply_entries import ClientEntry, ExtensionEntry, GroupEntry, LimitEntry, NumberEntry, TrunkEntry, login_of
from b2bua.directory import ANNOUNCEMENT, Cause, Strategy
from b2bua.faults import Fault, Location, dotted
from b2bua.net.certificates import faults_of_client, utc_now
from b2bua.numbers import normalise
from b2bua.routing.overflow import all_from, circles
from b2bua.toml_lines import LocatedToml
from b2bua.trunk_profiles import PROFILES, FromShows

_TELEPHONE = re.compile(r"\+?[0-9]{3,15}|[A-Za-z0-9._-]+")


@dataclass(slots=True)
class Review:
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
