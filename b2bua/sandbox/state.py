"""All that a stand-in amoCRM knows, in memory: accounts, clock, tokens, faults, journal, switches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from b2bua.sandbox.account import Account, Widget
from b2bua.sandbox.entities import Entity, EntityType, FieldValue, Note, ShownPopUp, Task, Unsorted, User
from b2bua.sandbox.faults import Faults
from b2bua.sandbox.journal import Journal
from b2bua.sandbox.outgoing import Outgoing
from b2bua.sandbox.pipelines import new_pipeline
from b2bua.sandbox.seed import DOMAIN, SandboxSeed, SeedAccount, SeedContact, SeedCustomer, SeedLead
from b2bua.sandbox.switches import Switches
from b2bua.sandbox.tokens import Grant, Tokens
from b2bua.sandbox.views import CallEntry, Card, calls_of, cards_of

__all__ = ["CallEntry", "Card", "Clock", "SandboxState"]


@dataclass(slots=True)
class Clock:
    """Seconds since 1970 from a source that a test may give, with an offset that it may move."""

    source: Callable[[], float] = time.time
    offset: float = 0.0
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    def now(self) -> float:
        return self.source() + self.offset

    def advance(self, seconds: float) -> None:
        self.offset += seconds
        self.moved.set()

    def set(self, now: float) -> None:
        self.offset = now - self.source()
        self.moved.set()


class SandboxState:
    """What the requests change, tests assert on and the demo prints. `subdomain` None means the first account."""

    def __init__(self, seed: SandboxSeed, clock: Callable[[], float] = time.time) -> None:
        self.clock = Clock(clock)
        self.journal = Journal()
        self.faults = Faults()
        self.tokens = Tokens()
        self.switches = Switches()
        self.outgoing = Outgoing()
        self.address: str | None = None        # host and port, when accounts are asked there and not by name
        self.news = self.clock.moved           # set when something was written, too
        self.closing = asyncio.Event()
        self.accounts: dict[int, Account] = {}
        for account in seed.accounts:
            self.add_account(account)

    def add_account(self, seed: SeedAccount) -> Account:
        now = int(self.clock.now())
        account = Account(seed.id, seed.subdomain, seed.name, now, seed.is_unsorted_on, seed.has_duplicate_control)
        for user in seed.users:
            account.users[user.id] = User(user.id, user.name, user.email, user.is_admin, user.is_active)
        for index, pipeline in enumerate(seed.pipelines):
            account.pipelines[pipeline.id] = new_pipeline(
                pipeline.id, pipeline.name, pipeline.stages, is_main=index == 0, is_unsorted_on=pipeline.is_unsorted_on
            )
        self.accounts[account.id] = account
        self.add_cards(account, EntityType.CONTACTS, seed.contacts)
        self.add_cards(account, EntityType.COMPANIES, seed.companies)
        for lead in seed.leads:
            self.add_lead(account, lead)
        for customer in seed.customers:
            self.add_customer(account, customer)
        for widget in seed.widgets:
            account.widgets[widget.code] = Widget(
                account.next_id(), widget.code, widget.client_id, dict(widget.settings), widget.is_active
            )
        for integration in seed.integrations:
            grant = self.grant(account, integration.client_id, integration.user)
            self.tokens.add_integration(integration, grant, now)
        return account

    def grant(self, account: Account, client_id: str, user: int | None = None) -> Grant:
        """By that user, by default the first administrator."""
        admins = [known.id for known in account.users.values() if known.is_admin]
        owner = user if user is not None else (admins or [account.first_user])[0]
        return Grant(account.id, client_id, owner, owner in admins)

    def host_of(self, account: Account) -> str:
        return self.address or f"{account.subdomain}.{DOMAIN}"

    def add_cards(self, account: Account, kind: EntityType, seeds: Iterable[SeedContact]) -> None:
        now = int(self.clock.now())
        for seed in seeds:
            first, _, last = seed.name.partition(" ")
            values = [FieldValue("PHONE", phone) for phone in seed.phones]
            values += [FieldValue("EMAIL", email) for email in seed.emails]
            account.add(Entity(
                kind, seed.id or account.next_id(), seed.name, seed.responsible or account.first_user, 0, now,
                seed.updated_at or now, first_name=first, last_name=last, fields=values,
            ))

    def add_lead(self, account: Account, seed: SeedLead) -> Entity:
        """Raises KeyError when what it hangs on is not there."""
        pipeline = account.main_pipeline if seed.pipeline_id is None else account.pipelines[seed.pipeline_id]
        lead = self._add_hanging(account, EntityType.LEADS, seed)
        lead.pipeline_id, lead.status_id = pipeline.id, seed.status_id or pipeline.first_stage
        return lead

    def add_customer(self, account: Account, seed: SeedCustomer) -> Entity:
        """Raises KeyError when what it hangs on is not there."""
        return self._add_hanging(account, EntityType.CUSTOMERS, seed)

    def _add_hanging(self, account: Account, kind: EntityType, seed: SeedLead | SeedCustomer) -> Entity:
        now = int(self.clock.now())
        responsible = seed.responsible or account.first_user
        entity = account.add(Entity(kind, seed.id or account.next_id(), seed.name, responsible, 0, now, now))
        for other, linked in ((EntityType.CONTACTS, seed.contact), (EntityType.COMPANIES, seed.company)):
            if linked is not None:
                account.link(entity, account.entities[other][linked])
        return entity

    def account(self, subdomain: str | None = None) -> Account:
        return next(account for account in self.accounts.values() if subdomain in (None, account.subdomain))

    def delete_card(self, kind: EntityType, number: int, subdomain: str | None = None) -> None:
        """Somebody deleted it, or merged it into another one."""
        self.account(subdomain).delete(kind, number, self.clock.now())

    def rename(self, subdomain: str, new: str) -> None:
        """The account moves to another host."""
        account = self.account(subdomain)
        account.former_subdomains.add(subdomain)
        account.subdomain = new

    # What tests assert on: plain values, which later requests do not change.

    def contacts(self, subdomain: str | None = None) -> list[Entity]:
        return self._entities(EntityType.CONTACTS, subdomain)

    def companies(self, subdomain: str | None = None) -> list[Entity]:
        return self._entities(EntityType.COMPANIES, subdomain)

    def leads(self, subdomain: str | None = None) -> list[Entity]:
        return self._entities(EntityType.LEADS, subdomain)

    def customers(self, subdomain: str | None = None) -> list[Entity]:
        return self._entities(EntityType.CUSTOMERS, subdomain)

    def tasks(self, subdomain: str | None = None) -> list[Task]:
        return [replace(task) for task in self.account(subdomain).tasks.values()]

    def notes(self, subdomain: str | None = None) -> list[Note]:
        return [replace(note, params=dict(note.params)) for note in self.account(subdomain).notes.values()]

    def unsorted(self, subdomain: str | None = None) -> list[Unsorted]:
        return [replace(one, metadata=dict(one.metadata)) for one in self.account(subdomain).unsorted.values()]

    def calls(self, subdomain: str | None = None) -> list[CallEntry]:
        """All calls of all cards, in the order in which they came."""
        return calls_of(self.account(subdomain))

    def pop_ups(self, subdomain: str | None = None) -> list[ShownPopUp]:
        return list(self.account(subdomain).pop_ups)

    def cards(self, subdomain: str | None = None) -> list[Card]:
        """With their calls, as people see them."""
        return cards_of(self.account(subdomain))

    def _entities(self, kind: EntityType, subdomain: str | None) -> list[Entity]:
        return [
            replace(
                entity, fields=list(entity.fields), tags=list(entity.tags),
                linked={other: list(ids) for other, ids in entity.linked.items() if ids},
            )
            for entity in self.account(subdomain).entities[kind].values()
        ]
