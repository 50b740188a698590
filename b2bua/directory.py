"""Who is who: one immutable snapshot of clients, trunks, numbers, extensions and groups, with its indexes.

The store loads it, `apply` changes the store, the switchboard swaps the snapshot; a call keeps the one it began with.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property

from b2bua.cdr import ClientId
from b2bua.crm.functions import CrmFunctions
from b2bua.numbers import NumberFormat
from b2bua.trunk_profiles import PROFILES, CallerSource, FromShows, Identity, TrunkProfile

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

OPERATOR_LOGIN = "operator"            # of who runs the platform; no client may have it


@dataclass(frozen=True, slots=True)
class Extension:
    """An employee's phone number inside the office, and the credentials of their phones."""

    client: ClientId
    number: str                              # "101"
    login: str                               # digest user name, unique on the server
    ha1: Mapping[str, str] = field(repr=False)   # algorithm ("MD5", "SHA-256") -> H(login:realm:password)
    name: str = ""                           # shown to whom this extension calls
    crm_user: int | None = None
    address: str | None = None               # a fixed SIP URI instead of a registration
    ascii_only: bool = False                 # the phone cannot show UTF-8 names
    max_contacts: int = 5
    caller_id: str = ""                      # outgoing calls show this number; "" shows the trunk's, else the client's
    hide_caller_id: bool = False             # outgoing calls withhold it (RFC 3323)
    ring_seconds: int = 30                   # called from inside, or when a call has come on to it
    forward_always: str | None = None        # where its calls go instead
    on_no_answer: str | None = None          # extension, group, +number or announcement where a call goes on
    on_busy: str | None = None
    on_unregistered: str | None = None
    max_calls: int = 10                      # at once, that its phones have made
    outgoing_per_hour: int = 60              # outside calls that it makes, transfers or sends on

    @property
    def overflow(self) -> Mapping[Cause, str]:
        return _overflow(self)


@dataclass(frozen=True, slots=True)
class Trunk:
    """A line to an operator: known by its address, or by our registration there."""

    client: ClientId
    name: str
    host: str                                # next hop, name or IP
    port: int | None = None                  # None: RFC 3263 decides
    transport: str = "UDP"
    networks: tuple[Network, ...] = ()       # whence its calls come, beside `host`
    register: bool = False
    user: str = ""
    password: str = field(default="", repr=False)
    domain: str = ""                         # host part of our AOR there; default `host`
    caller_id: str = ""                      # outgoing calls show this number; "" shows the client's
    country: str = "RU"                      # how national numbers are read (ISO 3166)
    max_calls: int = 100
    priority: int = 0                        # outgoing calls try lower ones first
    weight: int = 1                          # among those of one priority: the share of calls that try it first
    prefixes: tuple[str, ...] = ()           # outgoing calls only to numbers that begin so; () takes all
    profile: str = "generic"                 # of b2bua/trunk_profiles.py; what follows differs from it
    number_format: NumberFormat | None = None
    caller_format: NumberFormat | None = None
    identity: Identity | None = None
    from_shows: FromShows | None = None
    trusts: tuple[CallerSource, ...] | None = None
    ca_file: str = ""                        # TLS: who vouches for the operator; "" the system's authorities
    certificate: str = ""                    # TLS: what we show there when asked (files of the server's)
    certificate_key: str = ""

    @property
    def rules(self) -> TrunkProfile:
        own = {name: value for name in OWN_RULES if (value := getattr(self, name)) is not None}
        return replace(PROFILES[self.profile], **own) if own else PROFILES[self.profile]


OWN_RULES = ("number_format", "caller_format", "identity", "from_shows", "trusts")


ANNOUNCEMENT = "announcement:"              # begins a destination that is no phone: the sound of that name is played


class Cause(Enum):
    """Why a call goes on from a destination; the value is its setting."""

    ALWAYS = "forward_always"                # an extension's only
    NO_ANSWER = "on_no_answer"
    BUSY = "on_busy"                         # or declined
    UNREGISTERED = "on_unregistered"         # or out of reach


class Strategy(Enum):
    """In what order the members of a group ring."""

    TOGETHER = "together"
    IN_TURN = "in-turn"                      # one after another, as they stand
    ROUND = "round"                          # the same, and each call begins with the next member
    LONGEST_IDLE = "longest-idle"            # the same, and who has been without a call longest is the first


@dataclass(frozen=True, slots=True)
class Group:
    client: ClientId
    number: str
    members: tuple[str, ...]                 # extension numbers
    name: str = ""
    strategy: Strategy = Strategy.TOGETHER
    member_seconds: int = 15                 # how long each rings, unless they ring together
    ring_seconds: int = 30                   # together; called from inside, or when a call has come on to it
    on_no_answer: str | None = None          # extension, group, +number or announcement where a call goes on
    on_busy: str | None = None
    on_unregistered: str | None = None

    @property
    def overflow(self) -> Mapping[Cause, str]:
        return _overflow(self)


@dataclass(frozen=True, slots=True)
class Hours:
    """When a number is open, as the file says it (routing/hours.py reads it), and where its calls go otherwise."""

    time_zone: str                           # "Europe/Moscow"
    open: tuple[str, ...]                    # "mon-fri 09:00-18:00"
    otherwise: str                           # extension, group, +number or announcement
    holidays: tuple[str, ...] = ()           # "2026-05-11", or "01-01" for each year


@dataclass(frozen=True, slots=True)
class Number:
    """A DID: an outside number of this client and where its calls go."""

    client: ClientId
    number: str                              # E.164 with +, or whatever the trunk sends when it is no such number
    destination: str                         # extension, group, +number or announcement
    trunk: str | None = None                 # only from this trunk
    ring_seconds: int = 30
    on_no_answer: str | None = None          # these stand before the destination's own
    on_busy: str | None = None
    on_unregistered: str | None = None
    hours: Hours | None = None               # None: always open

    @property
    def is_for_people(self) -> bool:
        """Whether anybody shall answer its calls: not where it plays an announcement to whoever calls."""
        return not self.destination.startswith(ANNOUNCEMENT)

    @property
    def overflow(self) -> Mapping[Cause, str]:
        return _overflow(self)


def _overflow(of: Extension | Group | Number) -> Mapping[Cause, str]:
    return {cause: target for cause in Cause if (target := getattr(of, cause.value, None)) is not None}


class UsersFrom(Enum):
    """Where it is said which extension is whose in the CRM."""

    FILE = "file"
    WIDGET = "widget"                        # and in the file, for users whom the widget does not name


@dataclass(frozen=True, slots=True)
class CrmAccount:
    """How a client's CRM is reached, and which functions are switched on."""

    base_url: str
    token: str = field(default="", repr=False)   # long-lived; "": by OAuth, if there is an integration
    functions: CrmFunctions = field(default_factory=CrmFunctions)
    patience: float = 1.5                    # seconds a phone waits for the CRM
    responsible_ring_seconds: int = 20
    default_user: int | None = None
    sync: bool = True                        # who calls is read ahead, so that no call waits for the CRM
    sync_minutes: int = 5                    # between two looks at what has changed there
    sync_cards: int = 100_000                # of each kind; those that changed last are read
    webhooks: bool = True                    # the CRM is asked to tell us its changes, where it can reach us
    client_id: str = ""                      # of an OAuth integration
    client_secret: str = field(default="", repr=False)
    redirect_uri: str = ""
    widget: str = ""                         # code of its widget; "": it has none
    users_from: UsersFrom = UsersFrom.FILE
    account: int | None = None               # its id, once its widget was connected with the client's password
    active_users: frozenset[int] | None = None   # as the CRM has told, not of the file; None: not known

    def has_active(self, user: int) -> bool:
        """Whether that user may be told of calls, as far as is known: of who is switched off the CRM takes no write."""
        return self.active_users is None or user in self.active_users


@dataclass(frozen=True, slots=True)
class PrefixLimit:
    """How many outgoing calls to numbers that begin so; None: as many as there are."""

    prefix: str                              # "+882"
    max_calls: int | None = None             # at once
    per_hour: int | None = None
    refused: bool = False                    # none at all


@dataclass(frozen=True, slots=True)
class Client:
    id: ClientId
    name: str
    crm: CrmAccount | None = None
    max_calls: int = 100
    record: bool = True
    country: str = "RU"
    caller_id: str = ""                      # outgoing calls show this number unless extension or trunk say another
    forward_outside: bool = False            # extensions, and numbers with all their calls, may lead outside: a risk
    outgoing_per_hour: int = 600             # of all extensions together, and of what numbers and groups send outside
    limits: tuple[PrefixLimit, ...] = ()     # the longest prefix counts
    music_on_hold: str = ""                  # the sound that who is put on hold hears; "": what the holding phone sends
    pickup_code: str = "**"                  # before a number: picks up a call that rings there; "": nobody may
    group_pickup_code: str = "*8"            # picks up a call that rings at somebody of one's own groups; "" likewise
    show_callers: bool = False               # who watches a colleague's phone sees with whom it talks
    click2call_answer_after: int | None = None   # seconds; the phone of who clicked answers by itself. None: it rings
    login: str = ""                          # of the client's administrator, in the widget; unique on the server
    password_hash: str = field(default="", repr=False)     # argon2id; "": no password opens it


@dataclass(frozen=True)
class Directory:
    """All clients of the server. Lookups by what comes in from the network are dictionary lookups."""

    clients: tuple[Client, ...] = ()
    extensions: tuple[Extension, ...] = ()
    trunks: tuple[Trunk, ...] = ()
    groups: tuple[Group, ...] = ()
    numbers: tuple[Number, ...] = ()

    @cached_property
    def client(self) -> Mapping[ClientId, Client]:
        return {client.id: client for client in self.clients}

    @cached_property
    def client_by_login(self) -> Mapping[str, Client]:
        return {client.login: client for client in self.clients if client.login}

    @cached_property
    def by_login(self) -> Mapping[str, Extension]:
        return {extension.login: extension for extension in self.extensions}

    @cached_property
    def extension(self) -> Mapping[tuple[ClientId, str], Extension]:
        return {(extension.client, extension.number): extension for extension in self.extensions}

    @cached_property
    def group(self) -> Mapping[tuple[ClientId, str], Group]:
        return {(group.client, group.number): group for group in self.groups}

    @cached_property
    def trunk(self) -> Mapping[tuple[ClientId, str], Trunk]:
        return {(trunk.client, trunk.name): trunk for trunk in self.trunks}

    @cached_property
    def extensions_of(self) -> Mapping[ClientId, tuple[Extension, ...]]:
        of: dict[ClientId, list[Extension]] = {}
        for extension in self.extensions:
            of.setdefault(extension.client, []).append(extension)
        return {client: tuple(extensions) for client, extensions in of.items()}

    @cached_property
    def by_crm_user(self) -> Mapping[tuple[ClientId, int], Extension]:
        return {(e.client, e.crm_user): e for e in self.extensions if e.crm_user is not None}

    @cached_property
    def did(self) -> Mapping[tuple[ClientId, str], Number]:
        return {(number.client, number.number): number for number in self.numbers}

    @cached_property
    def owners(self) -> Mapping[str, tuple[Number, ...]]:
        """Whose number that is: an operator's mistake may bring it to another client's trunk."""
        owners: dict[str, tuple[Number, ...]] = {}
        for number in self.numbers:
            owners[number.number] = (*owners.get(number.number, ()), number)
        return owners

    def trunks_of(self, client: ClientId) -> Iterable[Trunk]:
        return (trunk for trunk in self.trunks if trunk.client == client)
