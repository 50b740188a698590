"""The entries of an apply file, each by itself: what may stand in it, and what it says of what may not."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from b2bua.config import Network
from b2bua.crm import texts
from b2bua.crm.functions import CardKind, CrmRules, DealRule, Responsible
from b2bua.directory import ANNOUNCEMENT, Strategy, UsersFrom
from b2bua.faults import did_you_mean
from b2bua.media import sounds
from b2bua.numbers import NumberFormat
from b2bua.phrases import Phrase, Wrong
from b2bua.routing import hours as opening
from b2bua.trunk_profiles import PROFILES, CallerSource, FromShows, Identity

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
SHORTEST_PASSWORD, LONGEST_PASSWORD = 12, 200           # of a client, characters
_PROFILES = Phrase("Known are {known}.", known=", ".join(PROFILES))


class Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _can_be_filled(template: str) -> str:
    if (fault := texts.fault_of(template)) is not None:
        raise Wrong(fault, "It may say {placeholders}.",
                    placeholders=", ".join(f"{{{name}}}" for name in texts.PLACEHOLDERS))
    return template


Template = Annotated[Text, AfterValidator(_can_be_filled)]
_RULES = CrmRules()


class DealEntry(Entry):
    pipeline: int | None = Field(default=None, ge=1, description="id of its pipeline; default: the account's main one")
    stage: int | None = Field(default=None, ge=1, description="id of its stage; default: the pipeline's first")
    name: Template = Field(default=DealRule().name, description="of the deal")

    @field_validator("stage")
    @classmethod
    def _is_in_a_pipeline(cls, stage: int | None, info: ValidationInfo) -> int | None:
        if stage is not None and info.data.get("pipeline", 0) is None:
            raise Wrong("a stage is one of its pipeline's", "Add `pipeline`.")
        return stage


class CrmRulesEntry(Entry):
    incoming_answered: CardKind = Field(default=_RULES.incoming_answered,
        description="who is unknown, calls, and is talked to becomes a contact, an unsorted lead, or nothing")
    incoming_missed: CardKind = Field(default=_RULES.incoming_missed, description="the same when nobody talked to them")
    outgoing_answered: CardKind = Field(default=_RULES.outgoing_answered,
        description="who is unknown, is called, and answers becomes a contact, or nothing")
    outgoing_unanswered: CardKind = Field(default=_RULES.outgoing_unanswered,
        description="the same when they did not answer")
    contact_name: Template = Field(default=_RULES.contact_name, description="name of a new contact")
    responsible: Responsible = Field(default=_RULES.responsible,
        description="whose new contacts and deals are: answered (who talked last; else `default_user`), or default")
    tag: Annotated[Text, Field(max_length=100)] = Field(default=_RULES.tag, description="on new contacts and deals")
    deal: DealEntry | None = Field(default=None, description="a new contact gets a deal too; default: none")
    fill_in_text: Template = Field(default=_RULES.fill_in_text, description="of the task for a new contact")
    fill_in_minutes: int = Field(default=_RULES.fill_in_minutes, ge=1, le=43_200,
        description="it is due so long after the call")
    call_back_text: Template = Field(default=_RULES.call_back_text, description="of the task for a missed call")
    call_back_minutes: int = Field(default=_RULES.call_back_minutes, ge=1, le=43_200,
        description="it is due so long after the call")

    @field_validator("outgoing_answered", "outgoing_unanswered")
    @classmethod
    def _has_a_direction(cls, kind: CardKind) -> CardKind:
        if kind is CardKind.UNSORTED:
            raise Wrong("unsorted leads are of incoming calls only", 'Say "contact" or "nothing".')
        return kind


class CrmDidEntry(CrmRulesEntry):
    number: Text = Field(min_length=1, description="one of the client's numbers")


class CrmEntry(Entry):
    base_url: str = Field(description="address of the account, https://NAME.amocrm.ru")
    token: SecretStr = Field(default=SecretStr(""),
        description="long-lived token of the integration; without it: OAuth, with these three")
    client_id: str = Field(default="", pattern=r"^[A-Za-z0-9-]{0,64}$", description="id of the integration")
    client_secret: SecretStr = Field(default=SecretStr(""), description="secret key of the integration")
    redirect_uri: str = Field(default="", max_length=500, pattern=r"^[\x21-\x7e]*$",
        description="redirect address of the integration, character by character as it stands there")
    forward_to_responsible: bool = Field(default=True, description="the responsible user's phone rings first")
    set_caller_name: bool = Field(default=True, description="phones show the contact's name")
    pop_up: bool = Field(default=True, description="the card of the caller pops up")
    create_on_incoming: bool = Field(default=False, description="who calls and is unknown gets into the CRM")
    create_on_outgoing: bool = Field(default=False,
        description="the same for whom we call; people may make private calls")
    task_on_new_contact: bool = Field(default=False, description="a task to fill in each new contact")
    task_on_missed: bool = Field(default=False, description="a task to call back who is known and was missed")
    not_told: tuple[Text, ...] = Field(default=(), max_length=1000,
        description="outside numbers whose calls are none of the CRM's business")
    patience: float = Field(default=1.5, ge=0, le=10, description="seconds that a phone waits for the CRM, at most")
    responsible_ring_seconds: int = Field(default=20, ge=1, le=300,
        description="how long the responsible user's phone rings before others do")
    default_user: int | None = Field(default=None, ge=1, description="CRM user for whom there is no better one")
    sync: bool = Field(default=True, description="who has which number is read ahead: no call waits for the CRM")
    sync_minutes: int = Field(default=5, ge=1, le=1440, description="between two looks at what has changed in the CRM")
    sync_cards: int = Field(default=100_000, ge=1, le=250_000,
        description="contacts read ahead, and as many companies and deals; those that changed last")
    webhooks: bool = Field(default=True,
        description="the CRM is asked to tell what changes, where `web.public_url` is https")
    widget: str = Field(default="", pattern=r"^[A-Za-z0-9_-]{0,64}$",
        description="code of the account's widget, in whose settings users have their extensions")
    users_from: UsersFrom | None = Field(default=None,
        description="whose extension is whose: widget, or file (`crm_user` alone); default: widget, if one is named")
    rules: CrmRulesEntry | None = Field(default=None, description="how contacts, deals and tasks are made")
    did: tuple[CrmDidEntry, ...] = Field(default=(), max_length=1000,
        description="other rules for calls to single numbers")

    @field_validator("base_url")
    @classmethod
    def _is_safe(cls, url: str) -> str:
        parts = urlsplit(url)
        if not parts.hostname or parts.scheme not in ("https", "http"):
            raise Wrong("{url!r} is no address of a CRM", "Write it like https://NAME.amocrm.ru.", url=url)
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise Wrong("the token would cross the network in the clear", "Use https://.")
        return url.rstrip("/")

    @field_validator("redirect_uri")
    @classmethod
    def _is_reachable(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and not (parts.hostname and (parts.scheme == "https" or _is_loopback(parts.hostname))):
            raise Wrong("{url!r} is no address that a CRM sends codes to",
                        "Write it like https://pbx.example.org/amocrm/oauth.", url=url)
        return url

    @model_validator(mode="after")
    def _can_be_entered(self) -> Self:
        secret = self.client_secret.get_secret_value()
        if bool(self.client_id) != bool(secret):
            raise Wrong("an integration has an id and a secret key",
                        "Add both `client_id` and `client_secret`, from its tab of keys.")
        if not self.token.get_secret_value() and not (secret and self.redirect_uri):
            raise Wrong("there is no way into this account", "Add `token`, a long-lived one, or `client_id`, "
                        "`client_secret` and `redirect_uri` of an integration.")
        return self


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
            raise Wrong("there is no profile {profile!r}", did_you_mean(profile, list(PROFILES), _PROFILES),
                        profile=profile)
        return profile


class ExtensionEntry(Entry):
    number: Short = Field(description="what colleagues dial: digits, * and #, at most 12")
    login: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._@-]{1,100}$",
                              description="digest user name of the phone; default CLIENT-NUMBER")
    password: SecretStr | None = Field(default=None, description="of the phone, 8 characters or more; kept as a hash")
    name: Text = Field(default="", description="shown to whom this extension calls")
    crm_user: int | None = Field(default=None, ge=1, description="id of its user in the CRM")
    address: str | None = Field(default=None, max_length=500, pattern=r"^sips?:[^\s<>\"]+$",
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
            raise Wrong("a password has 8 to 100 characters", "Give another one; phones are attacked by guessing.")
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
            raise Wrong("there is no time zone {name!r}", near, name=name)
        return name

    @field_validator("open")
    @classmethod
    def _are_periods(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            try:
                opening.period(text)
            except ValueError:
                raise Wrong("{text!r} is no opening time", "Write it like `mon-fri 09:00-18:00`; the days are "
                            "{days}.", text=text, days=", ".join(opening.DAYS)) from None
        return texts

    @field_validator("holidays")
    @classmethod
    def _are_days(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            try:
                opening.holiday(text)
            except ValueError:
                raise Wrong("{text!r} is no date", "Write it like `2026-05-11`, or `01-01` for each year.",
                            text=text) from None
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
    click2call_answer_after: int | None = Field(default=None, ge=0, le=60,
        description="seconds until the phone of who clicks a number shall answer by itself; without it: it rings")
    login: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._@-]{1,100}$",
        description="of its administrator in the widget, unique on the server; default: `id`")
    password: SecretStr | None = Field(default=None,
        description="that goes with `login`, 12 characters or more, or an argon2id hash; without it nobody connects a "
                    "widget by password")
    crm: CrmEntry | None = Field(default=None, description="its amoCRM account; without it: no CRM")
    trunk: tuple[TrunkEntry, ...] = Field(default=(), description="lines to operators")
    extension: tuple[ExtensionEntry, ...] = Field(default=(), description="employees' numbers and phones")
    group: tuple[GroupEntry, ...] = Field(default=(), description="numbers that ring several extensions")
    number: tuple[NumberEntry, ...] = Field(default=(), description="outside numbers and where their calls go")
    limit: tuple[LimitEntry, ...] = Field(default=(), max_length=200,
        description="outgoing calls by how their numbers begin")

    @field_validator("password")
    @classmethod
    def _is_long_enough(cls, password: SecretStr | None) -> SecretStr | None:
        if password is not None and not SHORTEST_PASSWORD <= len(password.get_secret_value()) <= LONGEST_PASSWORD:
            raise Wrong("a client's password has {least} to {most} characters",
                        "Give another one, or an argon2id hash; it opens the client's settings from the internet.",
                        least=SHORTEST_PASSWORD, most=LONGEST_PASSWORD)
        return password

    @property
    def own_login(self) -> str:
        return self.login or self.id


class DirectoryFile(Entry):
    client: tuple[ClientEntry, ...] = Field(default=(), description="firms on this server")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def login_of(client: ClientEntry, extension: ExtensionEntry) -> str:
    return extension.login or f"{client.id}-{extension.number}"
