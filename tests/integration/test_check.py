"""`check` finds what is wrong with the machine, beside what is wrong with the file, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from b2bua.cdr import ClientId
from b2bua.commands.check import checked, notes
from b2bua.config import Settings
from b2bua.directory import Client, Directory, Trunk
from b2bua.faults import ConfigurationFaults
from b2bua.store.directory import DirectoryStore
from b2bua.store.engine import open_database, sqlite_file
from b2bua.store.migrate import migrate
from tests.support.certificates import DAY, Authority
from tests.support.tone import tone, write_wav

FREE = """\
[server]
data_dir = "{directory}/data"
[sip]
listen = [{{ host = "127.0.0.1", port = {udp} }}, {{ transport = "tcp", host = "127.0.0.1", port = 0 }}]
[media]
host = "127.0.0.1"
[web]
port = {web}
"""


def written(directory: Path, text: str) -> Path:
    path = directory / "smartswitch.toml"
    path.write_text(text)
    return path


def faults(path: Path) -> list[str]:
    with pytest.raises(ConfigurationFaults) as wrong:
        checked(path)
    return [str(fault) for fault in wrong.value.faults]


def test_a_machine_that_can_run_it_is_left_as_it_was(tmp_path: Path) -> None:
    path = written(tmp_path, FREE.format(directory=tmp_path, udp=0, web=0))
    assert checked(path).server.data_dir == tmp_path / "data"
    assert list(tmp_path.iterdir()) == [path]


def test_taken_ports_are_all_named(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
        udp.bind(("127.0.0.1", 0))
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        ports = udp.getsockname()[1], tcp.getsockname()[1]
        path = written(tmp_path, FREE.format(directory=tmp_path, udp=ports[0], web=ports[1]))
        found = faults(path)
        checked(path.with_name(path.name), ports=False)
    assert [fault.partition(". ")[0] for fault in found] == [
        f"line 4: sip.listen[0].port: UDP port {ports[0]} of 127.0.0.1 is taken",
        f"line 8: web.port: TCP port {ports[1]} of 127.0.0.1 is taken",
    ]


def test_faults_of_file_and_machine_come_together(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = faults(written(tmp_path, f"""\
[server]
data_dir = "{tmp_path}/file/data"
[sip]
t1 = "x"
[web]
host = "192.0.2.77"
[database]
url = "postgresql://u:very-secret@127.0.0.1:1/db"
"""))
    assert [fault.partition(". ")[0] for fault in found] == [
        f"line 2: server.data_dir: {tmp_path}/file is a file, not a directory",
        "line 4: sip.t1: this is the wrong kind of value",
        "line 6: web.host: this machine has no address 192.0.2.77",
        "line 8: database.url: the database postgresql+asyncpg://u:***@127.0.0.1:1/db cannot be reached: "
        "[Errno 111] Connect call failed ('127.0.0.1', 1)",
        f"recording.directory: {tmp_path}/file is a file, not a directory",
    ]


def test_a_directory_that_is_not_writable_is_named(tmp_path: Path) -> None:
    text = FREE.format(directory=tmp_path, udp=0, web=0).replace(f"{tmp_path}/data", "/proc/self")   # not even for root
    assert faults(written(tmp_path, text))[0].startswith("line 2: server.data_dir: /proc/self is not writable")


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "smartswitch.db").write_text("no database at all " * 100)
    (found,) = faults(written(tmp_path, FREE.format(directory=tmp_path, udp=0, web=0)))
    assert "cannot be used: file is not a database" in found


def test_sip_ports_among_the_media_ports_are_named(tmp_path: Path) -> None:
    (found,) = faults(written(tmp_path, FREE.format(directory=tmp_path, udp=20000, web=0)))
    assert found.startswith("line 4: sip.listen[0].port: port 20000 is among the RTP ports")


def test_what_is_right_and_may_surprise_is_noted() -> None:
    assert any("public_url" in note for note in notes(Settings()))
    public = Settings.model_validate({"web": {"public_url": "https://pbx.example.org"}})
    assert notes(public) == []


TLS = """\
[sip]
listen = [
  {{ host = "127.0.0.1", port = 0 }},
  {{ transport = "tls", host = "127.0.0.1", port = 0, certificate = "{0}", key = "{1}", client_ca = "{2}" }},
]
[server]
data_dir = "{3}/data"
[media]
host = "127.0.0.1"
[web]
port = 0
"""


def with_tls(directory: Path, certificate: Path, key: Path, client_ca: Path) -> Path:
    return written(directory, TLS.format(certificate, key, client_ca, directory))


def test_certificates_that_serve_are_left_alone(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.issue("pbx", until=10 * DAY)
    settings = checked(with_tls(tmp_path, files.certificate, files.key, authority.file))
    assert any(f"{files.certificate} ends on" in note for note in notes(settings))


def test_the_web_servers_certificate_is_looked_at_as_well(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    good, other = authority.issue("pbx", until=10 * DAY), authority.issue("other", until=-DAY / 2)
    text = FREE.format(directory=tmp_path, udp=0, web=0)

    def web(certificate: Path, key: Path) -> Path:
        return written(tmp_path, f'{text}certificate = "{certificate}"\ncertificate_key = "{key}"\n')

    settings = checked(web(good.certificate, good.key))
    assert any(f"{good.certificate} ends on" in note for note in notes(settings))
    (found,) = faults(web(good.certificate, other.key))
    assert found.startswith(f"line 10: web.certificate_key: {other.key} is not the key of {good.certificate}")
    (found,) = faults(web(other.certificate, other.key))
    assert found.startswith(f"line 9: web.certificate: {other.certificate} expired on 20")


async def applied(settings: Settings, *trunks: Trunk) -> None:
    await migrate(settings.database_url)
    async with open_database(settings.database_url) as database:
        store = DirectoryStore(database)
        old, generation = await store.load()
        await store.replace(old, Directory(clients=(Client(ClientId("acme"), "Acme"),), trunks=trunks), generation)


def over_tls(name: str, certificate: object = "", key: object = "", ca_file: object = "") -> Trunk:
    return Trunk(ClientId("acme"), name, "sip.example.org", transport="TLS", ca_file=str(ca_file),
                 certificate=str(certificate), certificate_key=str(key))


def test_tls_files_of_the_trunks_in_the_database_are_looked_at_and_noted(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    good, soon, old = (authority.issue(name, until=until) for name, until in (
        ("good", 30 * DAY), ("soon", 10 * DAY), ("old", -DAY / 2)))
    path = written(tmp_path, FREE.format(directory=tmp_path, udp=0, web=0))
    settings = checked(path)
    without = notes(settings)
    asyncio.run(applied(
        settings,
        over_tls("bare"), over_tls("good", good.certificate, good.key, authority.file),
        over_tls("mixed", good.certificate, soon.key, tmp_path / "gone.pem"), over_tls("old", old.certificate, old.key),
        over_tls("soon", soon.certificate, soon.key), replace(over_tls("unused", "no.pem", "no.key"), transport="UDP")))
    assert checked(path) == settings        # a daemon runs all the same
    found = [note for note in notes(settings) if note not in without]
    assert [note.partition(" of client 'acme': ")[0] for note in found] == [
        "trunk 'mixed'", "trunk 'mixed'", "trunk 'old'", "trunk 'soon'"]
    problems = f"{tmp_path}/gone.pem cannot be read", "is not the key of", "expired on", "ends on"
    assert all(problem in note for note, problem in zip(found, problems, strict=True))


def test_a_database_of_another_version_is_not_asked_for_its_trunks(tmp_path: Path) -> None:
    settings = checked(written(tmp_path, FREE.format(directory=tmp_path, udp=0, web=0)))
    without = notes(settings)
    asyncio.run(applied(settings, over_tls("old", tmp_path / "gone.pem", tmp_path / "gone.key")))
    file = sqlite_file(settings.database_url)
    assert file is not None
    assert len(notes(settings)) > len(without)
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '0001'")
    assert notes(settings) == without


def test_every_fault_of_certificates_is_named_with_its_line_and_remedy(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    good, other = authority.issue("pbx"), authority.issue("other")
    expired, early = authority.issue("old", until=-DAY / 2), authority.issue("early", since=DAY)
    locked = authority.issue("locked", passphrase=b"secret")
    for certificate, key, problem, remedy in (
        (expired.certificate, expired.key, f"certificate: {expired.certificate} expired on 20", "Renew it"),
        (early.certificate, early.key, f"certificate: {early.certificate} is valid from", "this machine's clock"),
        (good.certificate, other.key, f"key: {other.key} is not the key of {good.certificate}", "was made for"),
        (good.key, good.key, f"certificate: {good.key} holds no certificate", "PEM"),
        (good.certificate, good.certificate, f"key: {good.certificate} holds no private key", "PEM"),
        (tmp_path / "no.pem", good.key, f"certificate: {tmp_path}/no.pem cannot be read: it is not there",
         "right path"),
        (locked.certificate, locked.key, f"key: the key in {locked.key} is encrypted", "passphrase"),
    ):
        (found,) = faults(with_tls(tmp_path, certificate, key, authority.file))
        assert found.startswith(f"line 4: sip.listen[1].{problem}")
        assert remedy in found
    assert len(faults(with_tls(tmp_path, tmp_path / "a", tmp_path / "b", good.key))) == 3


def test_a_sound_that_cannot_be_played_is_named_with_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "sounds"
    folder.mkdir()
    write_wav(folder / "good.wav", tone(440, 0.1))
    (folder / "bad.wav").write_bytes(b"ID3")
    text = FREE.format(directory=tmp_path, udp=0, web=0)
    path = written(tmp_path, text.replace("[media]", f'[media]\nsounds = "{folder}"'))
    (fault,) = faults(path)
    assert fault.startswith(f"line 6: media.sounds: {folder}/bad.wav: it is no WAV file of PCM: ")
    assert "sox IN -r 8000 -c 1 -b 16" in fault
    (folder / "bad.wav").unlink()
    checked(path)
