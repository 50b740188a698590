"""Everything that would keep the daemon from running, at once: in its file, its environment variables, its machine."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

from b2bua.config import Settings, load
from b2bua.directory import Trunk
from b2bua.faults import ConfigurationFaults, Fault, Location, dotted, in_order
from b2bua.media import sounds
from b2bua.net.certificates import expiry, faults_of, faults_of_client, utc_now
from b2bua.sip.effects import Transport
from b2bua.store.directory import DirectoryStore
from b2bua.store.engine import StoreUnavailable, open_database, sqlite_file, without_password
from b2bua.store.migrate import UnusableDatabase, pending

DATABASE_SECONDS = 15.0
SOON = timedelta(days=14)              # a certificate that ends so soon is worth a note


def checked(path: Path | None, *, ports: bool = True) -> Settings:
    """Settings with which the daemon can start now. Raises ConfigurationFaults with every fault.

    `ports`: whether to see if they are free; they are not while the daemon is running.
    """
    loaded = load(path)
    faults = [Fault(loaded.toml.line(at), dotted(at), problem, remedy)
              for at, problem, remedy in _machine_faults(loaded.settings, ports)
              if at[0] not in loaded.faulty]       # there we looked at a default
    if faults or loaded.faults:
        raise ConfigurationFaults(in_order([*loaded.faults, *faults]))
    return loaded.settings


def notes(settings: Settings) -> list[str]:
    """What is right, or keeps no daemon from running, and may all the same surprise. `settings`: as `checked`."""
    found = []
    if settings.web.public_url is None:
        found.append("web.public_url is not set: links to recordings will begin with "
                     f"{settings.public_url}, which a CRM elsewhere cannot reach.")
    elif settings.web.public_url.startswith("http://") and settings.database.url is not None:
        found.append("web.public_url is not https: recordings and sign-in cross the network in the clear.")
    if settings.media.plane == "none":
        found.append('media.plane is "none": media goes directly between the parties and nothing is recorded.')
    for listener in settings.sip.listen:
        if listener.certificate is not None:
            found += _ends_soon(listener.certificate)
    if settings.web.certificate is not None:
        found += _ends_soon(settings.web.certificate)
    for trunk in _trunks(settings.database_url):
        if trunk.transport == Transport.TLS.value:
            found += _trunk_notes(trunk)
    return found


def _trunk_notes(trunk: Trunk) -> Iterator[str]:
    """A daemon runs without a trunk. When the trunk was applied, all this was looked at; files change after that."""
    whose = f"trunk {trunk.name!r} of client {trunk.client!r}"
    faults = faults_of_client(trunk.ca_file, trunk.certificate, trunk.certificate_key, utc_now())
    yield from (f"{whose}: {fault}" for fault in faults)
    if trunk.certificate and not faults:
        yield from (f"{whose}: {note}" for note in _ends_soon(Path(trunk.certificate)))


def _ends_soon(certificate: Path) -> Iterator[str]:
    until = expiry(certificate)
    if until is not None and until - utc_now() < SOON:
        yield (f"the certificate {certificate} ends on {until:%Y-%m-%d}: renew it; the daemon takes the new file by "
               "itself.")


def _trunks(url: str) -> tuple[Trunk, ...]:
    """None of a database that is not there, not of this version, or gone since it was checked."""
    file = sqlite_file(url)
    if file is not None and not file.exists():
        return ()
    try:
        return asyncio.run(_read_trunks(url))
    except (StoreUnavailable, TimeoutError, UnusableDatabase):
        return ()


async def _read_trunks(url: str) -> tuple[Trunk, ...]:
    async with asyncio.timeout(DATABASE_SECONDS):
        revision, needed = await pending(url)
        if revision != needed:
            return ()
        async with open_database(url) as database:
            directory, _ = await DirectoryStore(database).load()
            return directory.trunks


Finding = tuple[Location, str, str]    # where, what, remedy


def _machine_faults(settings: Settings, ports: bool) -> Iterator[Finding]:
    yield from _directory_faults(settings)
    if ports:
        yield from _port_faults(settings)
    yield from _certificate_faults(settings)
    yield from _media_faults(settings)
    yield from _sound_faults(settings)
    yield from _database_faults(settings)


def _directory_faults(settings: Settings) -> Iterator[Finding]:
    directories: dict[Path, Location] = {
        settings.server.data_dir: ("server", "data_dir"),
        settings.recording_dir: ("recording", "directory"),
    }
    file = sqlite_file(settings.database_url)
    if file is not None:
        directories.setdefault(file.parent, ("database", "url"))
    for directory, at in directories.items():
        if (problem := _not_writable(directory)) is not None:
            yield at, problem, "Give its owner and rights to the user that runs the daemon, or name another directory."


def _not_writable(directory: Path) -> str | None:
    """Nothing is left behind: what does not exist yet is not made, but it must be possible to make it."""
    existing = directory.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        return f"{existing} is a file, not a directory"
    if existing != directory.absolute():
        return None if os.access(existing, os.W_OK | os.X_OK) else f"{directory} cannot be made in {existing}"
    try:
        with tempfile.TemporaryFile(dir=existing):
            return None
    except OSError as error:           # says more than access(): full, read-only, gone
        return f"{directory} is not writable: {error.strerror}"


def _port_faults(settings: Settings) -> Iterator[Finding]:
    for index, listener in enumerate(settings.sip.listen):
        kind = socket.SOCK_DGRAM if listener.transport == "udp" else socket.SOCK_STREAM
        yield from _bind_faults(("sip", "listen", index), kind, listener.host, listener.port)
    yield from _bind_faults(("web",), socket.SOCK_STREAM, settings.web.host, settings.web.port)


def _bind_faults(at: Location, kind: socket.SocketKind, host: str, port: int) -> Iterator[Finding]:
    error = _bind(kind, host, port)
    transport = "UDP" if kind is socket.SOCK_DGRAM else "TCP"
    match error and error.errno:
        case None:
            return
        case errno.EADDRINUSE:
            yield (*at, "port"), f"{transport} port {port} of {host} is taken", \
                f"Stop the program that has it (ss -lnp | grep :{port}), or use another port."
        case errno.EADDRNOTAVAIL:
            yield (*at, "host"), f"this machine has no address {host}", "Use one of its own (ip address), or 0.0.0.0."
        case errno.EACCES | errno.EPERM:
            yield (*at, "port"), f"this user may not use port {port}", \
                "Use one above 1023, or give CAP_NET_BIND_SERVICE."
        case _:
            yield (*at, "host"), f"cannot listen on {transport} {host}:{port}: {error}", "See what the system says."


def _bind(kind: socket.SocketKind, host: str, port: int) -> OSError | None:
    family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    try:
        with socket.socket(family, kind) as probe:
            if kind is socket.SOCK_STREAM:         # as the daemon does: connections of its last run may linger
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((host, port))
            if kind is socket.SOCK_STREAM:
                probe.listen(1)        # two may bind with SO_REUSEADDR; only one may listen
    except OSError as error:
        return error
    return None


def _certificate_faults(settings: Settings) -> Iterator[Finding]:
    for index, listener in enumerate(settings.sip.listen):
        if listener.certificate_files is not None:
            for fault in faults_of(listener.certificate_files, utc_now()):
                yield ("sip", "listen", index, fault.setting), fault.problem, fault.remedy
    if settings.web.certificate_files is not None:
        for fault in faults_of(settings.web.certificate_files, utc_now()):
            setting = "certificate_key" if fault.setting == "key" else fault.setting
            yield ("web", setting), fault.problem, fault.remedy


def _media_faults(settings: Settings) -> Iterator[Finding]:
    media = settings.media
    if media.plane != "embedded":
        return
    yield from _bind_faults(("media",), socket.SOCK_DGRAM, media.host, 0)
    for index, listener in enumerate(settings.sip.listen):
        if listener.transport == "udp" and media.port_min <= listener.port <= media.port_max:
            yield ("sip", "listen", index, "port"), \
                f"port {listener.port} is among the RTP ports ({media.port_min} to {media.port_max})", \
                "Move the one or the other (media.port_min, media.port_max)."


def _sound_faults(settings: Settings) -> Iterator[Finding]:
    if settings.media.sounds is not None and settings.media.plane == "embedded":
        for bad in sounds.load(settings.media.sounds).bad:
            yield ("media", "sounds"), f"{bad.path}: {bad.problem}", bad.remedy


def _database_faults(settings: Settings) -> Iterator[Finding]:
    url = settings.database_url
    file = sqlite_file(url)
    if file is not None and not file.exists():
        return                         # it will be made; whether it can be is a question to its directory
    at = ("database", "url")
    try:
        asyncio.run(_ask(url))
    except StoreUnavailable as error:
        yield at, f"the database {without_password(url)} cannot be reached: {error}", \
            "Start it, or correct the address; the daemon needs it to start."
    except TimeoutError:
        yield at, f"the database {without_password(url)} does not answer within {DATABASE_SECONDS:.0f} s", \
            "See whether a firewall is between, and whether it is overloaded."
    except UnusableDatabase as error:
        yield at, f"the database {without_password(url)} cannot be used: {error}", \
            "Create database and user as docs/configuration.md says, or name another database."


async def _ask(url: str) -> None:
    async with asyncio.timeout(DATABASE_SECONDS):
        await pending(url)
