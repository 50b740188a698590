"""Whose extension is whose in the CRM: its users, the map of its widget, and that of the file. Pure.

The file's `crm_user` is the base. Whom the widget names has the extension that it says; what of it cannot be is refused
by name, and counts as not said. Who is switched off in the CRM, or not there any more, has none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum

from b2bua.cdr import ClientId
from b2bua.directory import Client, CrmAccount, Directory, Extension, UsersFrom

MOST_USERS = 2_000                     # of one client that are kept; of more, the first that the CRM tells
LONGEST_NAME = 100                     # characters
LONGEST_EXTENSION = 32                 # what somebody typed into the widget; an extension has 12 at most
LARGEST_ID = 2**63 - 1
NAMED_AT_ONCE = 10                     # of more who share an extension, or of extensions that there are, the first

UserMap = Mapping[int, str]            # CRM user -> extension


@dataclass(frozen=True, slots=True)
class CrmUser:
    id: int
    name: str
    is_active: bool = True
    email: str = ""


class MapSource(Enum):
    WIDGET = "widget"                  # read from the CRM
    SETTINGS = "settings"              # sent by the widget when somebody saved it


@dataclass(frozen=True, slots=True)
class KnownUsers:
    """What the CRM has told of one client. No users: they were never told, so that nobody counts as switched off."""

    users: tuple[CrmUser, ...] = ()
    map: UserMap = field(default_factory=dict)
    source: MapSource = MapSource.WIDGET

    @property
    def active(self) -> frozenset[int] | None:
        """None: not known, as the list was never told, or is cut."""
        if not 0 < len(self.users) < MOST_USERS:
            return None
        return frozenset(user.id for user in self.users if user.is_active)


class FaultKind(Enum):
    DOUBLE = "double"                  # two users with one extension
    NO_EXTENSION = "no_extension"      # an extension that there is not
    NO_USER = "no_user"                # a user whom the CRM does not have
    SWITCHED_OFF = "switched_off"      # whose extension is nobody's
    UNREAD = "unread"                  # what the CRM does not let us read
    UNREACHED = "unreached"            # it does not answer just now


@dataclass(frozen=True, slots=True)
class UserFault:
    kind: FaultKind
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class ListedUser:
    """A user as `smartswitch crm users` shows them."""

    id: int
    name: str                          # "": the CRM has not told it
    email: str
    is_active: bool
    extension: str | None
    source: str                        # of the extension: "widget", "file"; "" without one


@dataclass(frozen=True, slots=True)
class UserListing:
    read_at: datetime | None           # when the CRM told it last, in this run of the server
    users: tuple[ListedUser, ...]
    faults: tuple[UserFault, ...]


# -- the map


@dataclass(frozen=True, slots=True)
class Mapped:
    extensions: tuple[Extension, ...]
    faults: tuple[UserFault, ...]


def mapped(extensions: Sequence[Extension], users: KnownUsers, widget: UserMap) -> Mapped:
    """One client's extensions with the users that they have in truth. `widget` is empty where the file alone counts."""
    off = _Off(users)
    at_work = {user: extension for user, extension in widget.items() if off.why(user) is None}
    taken, faults = _without_faults(at_work, extensions, users)
    of_extension = {extension: user for user, extension in taken.items()}
    told = {widget[user]: user for user in sorted(widget) if user not in at_work}
    effective = []
    for extension in extensions:
        user = of_extension.get(extension.number, extension.crm_user)
        if user is not None and taken.get(user, extension.number) != extension.number:
            user = None                # the widget has them elsewhere
        if user is not None and off.why(user) is not None:
            told.setdefault(extension.number, user)
            user = None
        if user is None and (gone := told.get(extension.number)) is not None:
            faults.append(off.fault(gone, extension.number))
        effective.append(extension if user == extension.crm_user else replace(extension, crm_user=user))
    return Mapped(tuple(effective), tuple(faults))


def checked(extensions: Sequence[Extension], users: KnownUsers, given: UserMap) -> tuple[UserFault, ...]:
    """What is wrong with a map that somebody wants to save; they are there to mend it, so that users who are switched
    off are refused as well."""
    off = _Off(users)
    faults = [off.fault(user, extension) for user, extension in sorted(given.items()) if off.why(user) is not None]
    return (*_without_faults(given, extensions, users)[1], *faults)


def tidied(given: Mapping[object, object]) -> UserMap:
    """What was typed into the widget: blanks at the ends do not count, and who has nothing else has no extension."""
    pairs: dict[int, str] = {}
    for user, extension in given.items():
        id_, number = user_id(user), extension if isinstance(extension, str) else ""
        if isinstance(extension, int) and not isinstance(extension, bool):
            number = str(extension)[:LONGEST_EXTENSION]
        if id_ is not None and (number := one_line(number, LONGEST_EXTENSION)) and len(pairs) < MOST_USERS:
            pairs[id_] = number
    return pairs


def user_id(value: object) -> int | None:
    """Users' ids are numbers, and in JSON's keys digits."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST_ID else None


def one_line(text: str, longest: int) -> str:
    """Without blanks at the ends, and without what is no letter."""
    return "".join(c if c.isprintable() else " " for c in text[:longest * 2]).strip()[:longest].strip()


def _without_faults(
    wanted: UserMap, extensions: Sequence[Extension], users: KnownUsers
) -> tuple[dict[int, str], list[UserFault]]:
    """The part of it that can be, and what is wrong with the rest."""
    there = {extension.number for extension in extensions}
    name = _Names(users)
    shared: defaultdict[str, list[int]] = defaultdict(list)
    for user, extension in sorted(wanted.items()):
        shared[extension].append(user)
    taken: dict[int, str] = {}
    faults: list[UserFault] = []
    for extension, whose in sorted(shared.items()):
        if extension not in there:
            verb = "has" if len(whose) == 1 else "have"
            faults.append(UserFault(
                FaultKind.NO_EXTENSION, f"{name.of_all(whose)} {verb} extension {extension}, which there is not",
                f"Give them one of these: {_listed(there)}."))
        elif len(whose) > 1:
            both = "both" if len(whose) == 2 else "all"
            faults.append(UserFault(
                FaultKind.DOUBLE, f"{name.of_all(whose)} {both} have extension {extension}",
                "Leave it to one of them in the widget's settings; until then it is as the file says."))
        else:
            taken[whose[0]] = extension
    return taken, faults


class _Names:
    """Users by name, and by number where two have the same one, or none is known."""

    def __init__(self, users: KnownUsers) -> None:
        self._name = {user.id: user.name for user in users.users if user.name}
        ids: defaultdict[str, set[int]] = defaultdict(set)
        for id_, name in self._name.items():
            ids[name].add(id_)
        self._shared = {name for name, whose in ids.items() if len(whose) > 1}

    def of(self, user: int) -> str:
        name = self._name.get(user)
        if name is None:
            return f"user {user}"
        return f"{name} ({user})" if name in self._shared else name

    def of_all(self, users: Sequence[int]) -> str:
        named = [self.of(user) for user in users[:NAMED_AT_ONCE]]
        if len(users) > NAMED_AT_ONCE:
            named.append(f"{len(users) - NAMED_AT_ONCE} more")
        return " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)


class _Off:
    """Who has left."""

    def __init__(self, users: KnownUsers) -> None:
        self._active = users.active
        self._known = {user.id for user in users.users}
        self._name = _Names(users)

    def why(self, user: int) -> FaultKind | None:
        """None: they are at work, as far as is known."""
        if self._active is None or user in self._active:
            return None
        return FaultKind.SWITCHED_OFF if user in self._known else FaultKind.NO_USER

    def fault(self, user: int, extension: str) -> UserFault:
        return self._fault(user, f"extension {extension} is still theirs",
                           "Give it to somebody else; until then its calls are the default user's.")

    def fault_of_default(self, user: int) -> UserFault:
        return self._fault(user, "is the default user", "Name another `default_user`; until then nobody is.")

    def _fault(self, user: int, but: str, remedy: str) -> UserFault:
        kind = self.why(user) or FaultKind.SWITCHED_OFF
        how = "is switched off in the CRM" if kind is FaultKind.SWITCHED_OFF else "is not in the CRM"
        return UserFault(kind, f"{self._name.of(user)} {how}, but {but}", remedy)


def _listed(numbers: Collection[str]) -> str:
    shown = sorted(numbers)[:NAMED_AT_ONCE]
    return ", ".join(shown + ["..."] * (len(numbers) > len(shown))) or "there are none yet"


# -- the whole directory


@dataclass(frozen=True, slots=True)
class Effective:
    """The directory that calls go by, and what is wrong with the users of each client that has a CRM."""

    directory: Directory
    faults: Mapping[ClientId, tuple[UserFault, ...]]


@dataclass(frozen=True, slots=True)
class EffectiveClient:
    client: Client
    extensions: tuple[Extension, ...]
    faults: tuple[UserFault, ...] = ()


def effective(base: Directory, known: Mapping[ClientId, KnownUsers]) -> Effective:
    """`base` is as the file has it. Clients without a CRM stay as they are."""
    return joined(base, [of_client(client, own, known) for client, own in by_client(base)])


def by_client(base: Directory) -> Iterator[tuple[Client, Sequence[Extension]]]:
    own: defaultdict[ClientId, list[Extension]] = defaultdict(list)
    for extension in base.extensions:
        own[extension.client].append(extension)
    return ((client, own[client.id]) for client in base.clients)


def of_client(client: Client, own: Sequence[Extension], known: Mapping[ClientId, KnownUsers]) -> EffectiveClient:
    if client.crm is None:
        return EffectiveClient(client, tuple(own))
    users = known.get(client.id, KnownUsers())
    done = mapped(own, users, widget_map(client.crm, users))
    account, faults = _account(client.crm, users)
    return EffectiveClient(replace(client, crm=account), done.extensions, (*done.faults, *faults))


def joined(base: Directory, done: Sequence[EffectiveClient]) -> Effective:
    extensions = tuple(extension for one in done for extension in one.extensions)
    return Effective(replace(base, clients=tuple(one.client for one in done), extensions=extensions),
                     {one.client.id: one.faults for one in done if one.client.crm is not None})


def widget_map(account: CrmAccount, users: KnownUsers) -> UserMap:
    return users.map if account.users_from is UsersFrom.WIDGET else {}


def _account(account: CrmAccount, users: KnownUsers) -> tuple[CrmAccount, Sequence[UserFault]]:
    off, default = _Off(users), account.default_user
    account = replace(account, active_users=users.active)
    if default is None or off.why(default) is None:
        return account, ()
    return replace(account, default_user=None), [off.fault_of_default(default)]


def listed(base: Iterable[Extension], now: Iterable[Extension], account: CrmAccount, users: KnownUsers
           ) -> tuple[ListedUser, ...]:
    """One client's users, by name: `base` are its extensions in the file, `now` those that calls go by."""
    has = {one.crm_user: one.number for one in now if one.crm_user is not None}
    in_file = {one.crm_user: one.number for one in base if one.crm_user is not None}
    by_id = {user.id: user for user in users.users}
    mentioned = {*by_id, *has, *in_file, *widget_map(account, users)}
    found = _listed_users(mentioned, by_id, has, in_file)
    return tuple(sorted(found, key=lambda one: (one.name == "", one.name, one.id)))


def _listed_users(ids: Iterable[int], by_id: Mapping[int, CrmUser], has: Mapping[int, str], in_file: Mapping[int, str]
                  ) -> Iterator[ListedUser]:
    for id_ in ids:
        user, extension = by_id.get(id_, CrmUser(id_, "", not by_id)), has.get(id_)
        source = "" if extension is None else "file" if in_file.get(id_) == extension else "widget"
        yield ListedUser(id_, user.name, user.email, user.is_active, extension, source)
