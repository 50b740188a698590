"""The office of the demo: one client with three phones, a trunk, and an account in the stand-in amoCRM."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from b2bua import app
from b2bua.apply.file import apply_file
from b2bua.config import (
    Listener,
    MediaSettings,
    ServerSettings,
    Settings,
    SipSettings,
    WebSettings,
)
from b2bua.demo.endpoint import Endpoint
from b2bua.sandbox import (
    SandboxSeed,
    SandboxState,
    SeedAccount,
    SeedContact,
    SeedIntegration,
    SeedUser,
    running_sandbox,
)
from b2bua.sip.effects import Address

HERE = "127.0.0.1"
TRUNK_HOST = "127.0.0.9"                   # the operator has an address of its own: calls from it are trunk calls
PHONE_HOST = "127.0.0.20"

NUMBER = "+74951112233"                    # the office's DID
KNOWN, SLOW, UNKNOWN, OUTSIDE = "+79161234567", "+79167654321", "+79031112233", "+79265554433"
CONTACT, SLOW_CONTACT = "Иван Петров", "Мария Сидорова"
ANNA, BORIS, VERA = 77, 78, 79             # amoCRM users
PASSWORDS = {"101": "demo-anna-101", "102": "demo-boris-102", "103": "demo-vera-103", "104": "demo-your-phone"}
RING_SECONDS = 3                           # of the number's normal destination

SEED = SandboxSeed(
    (
        SeedAccount(
            users=(
                SeedUser(ANNA, "Анна Смирнова", is_admin=True),
                SeedUser(BORIS, "Борис Кузнецов"),
                SeedUser(VERA, "Вера Попова"),
            ),
            contacts=(
                SeedContact(CONTACT, ("8 (916) 123-45-67",), responsible=ANNA),
                SeedContact(SLOW_CONTACT, (SLOW,), responsible=BORIS),
            ),
            integrations=(SeedIntegration(token="demo-token"),),  # noqa: S106 - a stand-in's
        ),
    )
)


@dataclass(frozen=True, slots=True)
class Office:
    """All that the story needs: the system under demonstration, and the world round it."""

    system: app.System
    crm: SandboxState
    crm_url: str
    server: Address
    trunk: Endpoint
    anna: Endpoint
    boris: Endpoint
    vera: Endpoint


@asynccontextmanager
async def open_office(data_dir: Path, *, sip_port: int, web_port: int) -> AsyncIterator[Office]:
    """Everything running, the phones registered."""
    async with AsyncExitStack() as parts:
        sandbox = await parts.enter_async_context(running_sandbox(SEED, HERE, 0))
        system = await parts.enter_async_context(app.running(_settings(data_dir, sip_port, web_port)))
        server = system.sip[0]
        trunk = await parts.enter_async_context(Endpoint.open("trunk", server, 440, host=TRUNK_HOST))
        phones = [
            await parts.enter_async_context(Endpoint.open(f"phone {number}", server, hz, host=PHONE_HOST))
            for number, hz in (("101", 620), ("102", 800), ("103", 980))
        ]
        office = data_dir / "office.toml"
        office.write_text(_directory(sandbox.base_url, trunk.address), "utf-8")
        await apply_file(system.store.directory, office, system.settings.sip.realm, who="demo")
        await system.switchboard.settings_changed()
        for phone, number in zip(phones, PASSWORDS, strict=False):
            status = await phone.register(number, PASSWORDS[number])
            if status != 200:
                raise RuntimeError(f"{phone.name} could not register: {status}")
        yield Office(system, sandbox.state, sandbox.base_url, server, trunk, *phones)


def _settings(data_dir: Path, sip_port: int, web_port: int) -> Settings:
    return Settings(
        server=ServerSettings(data_dir=data_dir, drain_seconds=2),
        sip=SipSettings(
            listen=(
                Listener(transport="udp", host=HERE, port=sip_port),
                Listener(transport="tcp", host=HERE, port=sip_port),
            )
        ),
        media=MediaSettings(host=HERE),
        web=WebSettings(host=HERE, port=web_port),
    )


def _directory(crm_url: str, trunk: Address) -> str:
    """What `smartswitch apply` reads: the whole office in one file."""
    people = (("101", "Анна Смирнова", ANNA), ("102", "Борис Кузнецов", BORIS), ("103", "Вера Попова", VERA))
    extensions = "".join(
        f'[[client.extension]]\nnumber = "{number}"\nlogin = "{number}"\nname = "{name}"\n'
        f'crm_user = {user}\npassword = "{PASSWORDS[number]}"\n'
        for number, name, user in people
    )
    return f"""
[[client]]
id = "romashka"
name = "ООО «Ромашка»"
country = "RU"

[client.crm]
base_url = "{crm_url}"
token = "demo-token"
forward_to_responsible = true
set_caller_name = true
pop_up = true
patience = 1.5
responsible_ring_seconds = 20
default_user = {BORIS}
sync = false                                # so that the slow CRM of the last call is asked
create_on_incoming = true
task_on_new_contact = true
task_on_missed = true

[client.crm.rules]
incoming_missed = "contact"

[[client.trunk]]
name = "operator"
host = "{trunk.host}"
port = {trunk.port}
caller_id = "{NUMBER}"

[[client.number]]
number = "{NUMBER}"
destination = "103"
ring_seconds = {RING_SECONDS}

{extensions}
[[client.extension]]
number = "104"
login = "104"
name = "Ваш телефон"
password = "{PASSWORDS['104']}"
"""
