"""What goes over the widget's API, as docs/widget-api.md has it."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from b2bua.control import ClickOutcome, ClickStage
from b2bua.crm.switches import Switches
from b2bua.crm.users import LONGEST_EXTENSION, MOST_USERS

LONGEST_PASSWORD = 200                 # characters, as in an apply file


class Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


Login = Annotated[str, Field(max_length=100)]
Password = Annotated[str, Field(max_length=LONGEST_PASSWORD)]
UserKey = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,17}$")]
ExtensionText = Annotated[str, Field(min_length=1, max_length=LONGEST_EXTENSION)]


class Check(Body):
    login: Login = ""
    password: Password = Field(default="", repr=False)


class Settings(Body):
    widget_version: str = Field(max_length=40)
    login: Login
    password: Password | None = Field(default=None, repr=False)
    functions: Switches
    extensions: Annotated[dict[UserKey, ExtensionText], Field(max_length=MOST_USERS)]


class EntityKind(Enum):
    CONTACTS = "contacts"
    COMPANIES = "companies"
    LEADS = "leads"
    CUSTOMERS = "customers"


class Entity(Body):
    type: EntityKind
    id: int = Field(ge=1, le=2**63 - 1)


class Click(Body):
    phone: str = Field(min_length=1, max_length=64)
    request: UUID
    extension: ExtensionText | None = None
    entity: Entity | None = None
    age: int = Field(default=0, ge=0, le=2**31)        # seconds since the click, when it is sent again


# -- answers


class Connected(Body):
    client: str
    extensions: int
    crm_connected: bool
    notes: tuple[str, ...]


class Saved(Body):
    client: str
    login: str
    functions: Switches


class Contact(Body):
    type: Literal["contacts", "companies"]
    id: int | None                     # None: not known here
    name: str


class Deal(Body):
    id: int
    name: str


class Heading(Enum):
    OUTBOUND = "outbound"
    INBOUND = "inbound"


class Unanswered(Enum):
    """How calls end that came in, beside what happens to those that went out."""

    MISSED = "missed"
    ANSWERED_ELSEWHERE = "answered_elsewhere"


class Call(Body):
    id: str = Field(max_length=64)
    version: int
    direction: Heading
    state: ClickStage
    outcome: ClickOutcome | Unanswered | None = None
    why: str | None = None
    number: str
    contact: Contact | None = None
    deal: Deal | None = None
    talk_seconds: int | None = None
    may_hang_up: bool


class Calls(Body):
    version: str
    calls: tuple[Call, ...]


class WidgetProblem(Body):
    """RFC 9457."""

    type: Literal["about:blank"] = "about:blank"
    title: str
    status: int
    code: str
    detail: str = ""
    remedy: str = ""
