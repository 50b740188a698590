"""What a stand-in amoCRM begins with: accounts, their users, cards and integrations."""

from __future__ import annotations

from dataclasses import dataclass, field


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
    status_id: int = 1001              # 142 won, 143 lost
    id: int | None = None


@dataclass(frozen=True, slots=True)
class SeedIntegration:
    """One integration and its tokens: `token` never expires (a long-lived one), a `code` waits to be exchanged."""

    client_id: str = "sandbox-integration"
    client_secret: str = "sandbox-secret"  # noqa: S105  (a stand-in's)
    redirect_uri: str = "https://pbx.example.org/amocrm/oauth"
    token: str = "sandbox-token"           # noqa: S105
    user: int | None = None            # whose rights the token has; default: the first administrator
    code: str | None = None


@dataclass(frozen=True, slots=True)
class SeedAccount:
    id: int = 31_000_001
    subdomain: str = "acme"
    name: str = "ООО «Ромашка»"
    users: tuple[SeedUser, ...] = (SeedUser(77, "Анна Смирнова", is_admin=True),)
    contacts: tuple[SeedContact, ...] = ()
    companies: tuple[SeedCompany, ...] = ()
    leads: tuple[SeedLead, ...] = ()
    integrations: tuple[SeedIntegration, ...] = (SeedIntegration(),)


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
    ),
))
