"""What a client lets us do in its CRM (F5 to F10): the switches, and the rules that say how. Off means no request."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class CardKind(Enum):
    """How somebody whom the CRM does not know gets into it."""

    CONTACT = "contact"
    UNSORTED = "unsorted"              # an incoming lead, for a person to accept or decline
    NOTHING = "nothing"


class Responsible(Enum):
    """Whose a new card is."""

    ANSWERED = "answered"              # who talked last, or dialled, else the default user
    DEFAULT = "default"                # always the account's default user


@dataclass(frozen=True, slots=True)
class DealRule:
    """A new contact gets a deal as well; without pipeline and stage: where the account begins its deals."""

    pipeline: int | None = None
    stage: int | None = None
    name: str = "{number}"


@dataclass(frozen=True, slots=True)
class CrmRules:
    """How F7 to F10 are carried out for calls to one of our numbers. Texts may say {number}, {did} and {name}."""

    incoming_answered: CardKind = CardKind.CONTACT
    incoming_missed: CardKind = CardKind.UNSORTED
    outgoing_answered: CardKind = CardKind.CONTACT
    outgoing_unanswered: CardKind = CardKind.NOTHING
    contact_name: str = "{number}"
    responsible: Responsible = Responsible.ANSWERED
    tag: str = ""                      # on new contacts and deals; "": none
    deal: DealRule | None = None
    fill_in_text: str = "Заполнить контакт {number}"
    fill_in_minutes: int = 15
    call_back_text: str = "Перезвонить {number}"
    call_back_minutes: int = 15


@dataclass(frozen=True, slots=True)
class CrmFunctions:
    """What the client has switched on."""

    forward_to_responsible: bool = True    # F5
    set_caller_name: bool = True           # F6
    pop_up: bool = True                    # F1
    create_on_incoming: bool = False       # F7
    create_on_outgoing: bool = False       # F8: people may make private calls
    task_on_new_contact: bool = False      # F9
    task_on_missed: bool = False           # F10
    rules: CrmRules = CrmRules()
    rules_of_did: tuple[tuple[str, CrmRules], ...] = ()    # for calls to these numbers instead
    not_told: tuple[str, ...] = ()         # outside numbers whose calls are none of the CRM's business

    def rules_for(self, did: str) -> CrmRules:
        return next((rules for number, rules in self.rules_of_did if number == did), self.rules)

    @property
    def wants_to_know_callers(self) -> bool:
        """Whether anything asks who calls before the call is connected."""
        return self.forward_to_responsible or self.set_caller_name
