"""What a stand-in amoCRM begins with: accounts, their users, cards and integrations."""

from __future__ import annotations

from dataclasses import dataclass, field

DOMAIN = "amocrm.test"                 # accounts are at acme.amocrm.test, unless they are asked by address
_SECRET = "sandbox-secret-of-64-characters-sandbox-secret-of-64-characters-"  # noqa: S105  (as long as amoCRM's)
WWW_HOST, API_HOST = f"www.{DOMAIN}", f"api-a.{DOMAIN}"


@dataclass(frozen=True, slots=True)
class SeedUser:
    id: int
    name: str
    email: str = ""
    is_admin: bool = False
    is_active: bool = True


@dataclass(frozen=True, slots=True)
class SeedContact:
    name: str
    phones: tuple[str, ...] = ()
    responsible: int | None = None     # default: the account's first user
    id: int | None = None              # default: the next free one
    emails: tuple[str, ...] = ()
    updated_at: int | None = None      # default: the sandbox's now


@dataclass(frozen=True, slots=True)
class SeedCompany(SeedContact):
    pass


@dataclass(frozen=True, slots=True)
class SeedLead:
    name: str
    contact: int | None = None         # id of the contact that it hangs on
    company: int | None = None
    responsible: int | None = None
    status_id: int | None = None       # 142 won, 143 lost; default: the pipeline's first stage
    id: int | None = None
    pipeline_id: int | None = None     # default: the main one


@dataclass(frozen=True, slots=True)
class SeedCustomer:
    name: str
    contact: int | None = None         # id of the contact that it hangs on
    company: int | None = None
    responsible: int | None = None
    id: int | None = None


@dataclass(frozen=True, slots=True)
class SeedPipeline:
    """`stages` without those that every pipeline has: unsorted, won (142), lost (143)."""

    id: int = 1_000
    name: str = "Воронка"
    stages: tuple[tuple[int, str], ...] = ((1_001, "Первичный контакт"), (1_002, "Переговоры"))
    is_unsorted_on: bool = True


@dataclass(frozen=True, slots=True)
class SeedIntegration:
    """One integration and its tokens: `token` never expires (a long-lived one), a `code` waits to be exchanged."""

    client_id: str = "sandbox-integration"
    client_secret: str = _SECRET
    redirect_uri: str = "https://pbx.example.org/amocrm/oauth"
    token: str = "sandbox-token"           # noqa: S105
    user: int | None = None            # whose rights the token has; default: the first administrator
    code: str | None = None
    disconnect_url: str | None = None  # called when it is switched off
    is_external: bool = False          # made by a button on a site: it may not ask for users


@dataclass(frozen=True, slots=True)
class SeedWidget:
    code: str = "smartswitch"
    client_id: str = "sandbox-integration"                         # whose tokens may read the settings
    settings: dict[str, object] = field(default_factory=dict)
    is_active: bool = True


@dataclass(frozen=True, slots=True)
class SeedAccount:
    id: int = 31_000_001
    subdomain: str = "acme"
    name: str = "ООО «Ромашка»"
    users: tuple[SeedUser, ...] = (SeedUser(77, "Анна Смирнова", is_admin=True),)
    contacts: tuple[SeedContact, ...] = ()
    companies: tuple[SeedCompany, ...] = ()
    leads: tuple[SeedLead, ...] = ()
    customers: tuple[SeedCustomer, ...] = ()
    pipelines: tuple[SeedPipeline, ...] = (SeedPipeline(),)        # the first is the main one
    integrations: tuple[SeedIntegration, ...] = (SeedIntegration(),)
    widgets: tuple[SeedWidget, ...] = ()
    is_unsorted_on: bool = True
    has_duplicate_control: bool = False


@dataclass(frozen=True, slots=True)
class SandboxSeed:
    """The first account answers when neither the Host nor the token names one."""

    accounts: tuple[SeedAccount, ...] = field(default=(SeedAccount(),))


EXAMPLE = SandboxSeed((
    SeedAccount(
        users=(
            SeedUser(77, "Анна Смирнова", "anna@example.org", is_admin=True),
            SeedUser(78, "Борис Кузнецов", "boris@example.org"),
            SeedUser(79, "Вера Попова", "vera@example.org", is_active=False),
        ),
        contacts=(
            SeedContact("Иван Петров", ("8 (916) 123-45-67",), responsible=77, id=9001),
            SeedContact("Мария Сидорова", ("+7 916 765 43 21", "84951112233"), responsible=78, id=9002),
        ),
        companies=(SeedCompany("ООО «Вектор»", ("+74957654321",), responsible=78, id=9501),),
        leads=(SeedLead("Поставка кресел", contact=9001, responsible=77, id=7001),),
        widgets=(SeedWidget(is_active=False),),
    ),
))
