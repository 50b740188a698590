"""Settings: right by default, every fault at once with its line, environment over file."""

from __future__ import annotations

from pathlib import Path

import pytest

from b2bua.config import Settings, WebSettings, database_url, load_settings, setting_names, variable_of
from b2bua.faults import ConfigurationFaults
from b2bua.recording.formats import BIT_RATES


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for location in setting_names():
        monkeypatch.delenv(variable_of(location), raising=False)


def faults(path: Path | None) -> list[str]:
    with pytest.raises(ConfigurationFaults) as wrong:
        load_settings(path)
    return [str(fault) for fault in wrong.value.faults]


def written(directory: Path, text: str) -> Path:
    path = directory / "smartswitch.toml"
    path.write_text(text)
    return path


def test_defaults_need_no_file() -> None:
    settings = load_settings()
    assert settings == Settings()
    assert settings.database_url == "sqlite+aiosqlite:///var/smartswitch.db"
    assert settings.recording_dir == Path("var/recordings")
    assert [(one.transport, one.port) for one in settings.sip.listen] == [("udp", 5060), ("tcp", 5060)]


def test_an_example_reads_as_it_says(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, """
        [server]
        data_dir = "/srv/smartswitch"
        [sip]
        listen = [{ transport = "udp", host = "192.0.2.1", port = 5060, advertise = "203.0.113.7" }]
        [database]
        url = "postgresql://u:p@db/smartswitch"
        [log]
        level = "DEBUG"
    """))
    assert settings.sip.listen[0].advertise == "203.0.113.7"
    assert settings.database_url == "postgresql+asyncpg://u:p@db/smartswitch"
    assert settings.log.level == "debug"


def test_every_fault_is_said_at_once_with_line_field_and_remedy(tmp_path: Path) -> None:
    found = faults(written(tmp_path, """\
[server]
data_dir = 5
[sip]
realmm = "x"
listen = [
  { transport = "udp", host = "localhost" },
  # a comment
  { transport = "sctp", port = 70000 },
]
register_min = 4000
[media]
port_min = 20000
port_max = 20001
[[web]]
x = 1
[trunk]
[log]
level = "loud"
"""))
    assert [fault.partition(". ")[0] for fault in found] == [
        "line 2: server.data_dir: this is the wrong kind of value",
        "line 4: sip.realmm: there is no such setting",
        "line 6: sip.listen[0].host: 'localhost' is no IP address",
        "line 8: sip.listen[1].port: this is too large",
        "line 8: sip.listen[1].transport: this value is not known",
        "line 11: media: 20000 to 20001 are too few ports for one call",
        "line 14: web: this is the wrong kind of value",
        "line 16: trunk: there is no such section",
        "line 18: log.level: this value is not known",
    ]
    assert found[1].endswith("Did you mean `realm`?")
    assert all(fault.partition(". ")[2] for fault in found), "each has a remedy"


def test_faults_between_settings_of_a_section_are_found(tmp_path: Path) -> None:
    twice = '{ transport = "udp", host = "192.0.2.1" }'
    assert "is listed twice" in faults(written(tmp_path, f"[sip]\nlisten = [{twice}, {twice}]"))[0]
    assert "out of order" in faults(written(tmp_path, "[sip]\nregister_min = 4000"))[0]
    assert "any address" in faults(written(tmp_path, '[media]\nadvertise = "0.0.0.0"'))[0]


def test_dns_servers_are_named_by_address_and_port(tmp_path: Path) -> None:
    text = '[sip]\nnameservers = ["192.0.2.53", "2001:db8::53", "[2001:db8::53]:5353"]'
    assert load_settings(written(tmp_path, text)).sip.dns_servers == (
        ("192.0.2.53", 53), ("2001:db8::53", 53), ("2001:db8::53", 5353))
    for wrong in ("ns.example", "ns.example:53", "192.0.2.53:", "192.0.2.53:0", "192.0.2.53:65536", "192.0.2.53:5:3",
                  "[192.0.2.53:53", "2001:db8::53]:53", ""):
        (fault,) = faults(written(tmp_path, f'[sip]\nnameservers = ["{wrong}"]'))
        assert fault.startswith(f"line 2: sip.nameservers: '{wrong}' is no address of a DNS server. Write it like")
    assert "at most 3" in faults(written(tmp_path, f'[sip]\nnameservers = {["192.0.2.53"] * 4}'))[0]


def test_the_environment_is_above_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, '[sip]\nrealm = "file"\nmax_calls = 5')
    monkeypatch.setenv("SMARTSWITCH_SIP__REALM", "environment")
    monkeypatch.setenv("SMARTSWITCH_SIP__LISTEN", '[{"transport": "udp", "port": 5070}]')
    monkeypatch.setenv("SMARTSWITCH_WEB__HOST", "")            # as compose files write "not given"
    settings = load_settings(path)
    assert (settings.sip.realm, settings.sip.max_calls, settings.web.host) == ("environment", 5, "127.0.0.1")
    assert [one.port for one in settings.sip.listen] == [5070]


def test_faults_of_the_environment_name_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMARTSWITCH_SIP__T1", "soon")
    monkeypatch.setenv("SMARTSWITCH_SIP__RELM", "x")
    monkeypatch.setenv("SMARTSWITCH_WEB__TRUSTED_PROXIES", "not json")
    assert [fault.partition(":")[0] for fault in faults(None)] == [
        "SMARTSWITCH_SIP__RELM", "SMARTSWITCH_SIP__T1", "SMARTSWITCH_WEB__TRUSTED_PROXIES"]
    assert "Did you mean `SMARTSWITCH_SIP__REALM`?" in faults(None)[0]


def test_words_that_pydantic_settings_knows_are_no_way_in(tmp_path: Path) -> None:
    assert "there is no such section" in faults(written(tmp_path, "_cli_parse_args = true"))[0]


def test_a_file_that_is_not_there_or_no_toml_is_said_so(tmp_path: Path) -> None:
    assert "No such file" in faults(tmp_path / "nowhere.toml")[0]
    assert faults(written(tmp_path, "[sip\n"))[0].startswith("line 1: this is no TOML")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in faults(tmp_path / "bytes.toml")[0]


def test_secrets_are_not_shown() -> None:
    settings = Settings.model_validate({"web": {"operator_password": "very-secret-word"},
                                        "database": {"url": "postgresql://u:very-secret-word@h/d"}})
    assert "very-secret-word" not in repr(settings)


@pytest.mark.parametrize("url", ["mysql://x", "smartswitch.db", ""])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="no database that is supported"):
        database_url(url)


def test_every_bit_rate_that_can_be_set_can_be_made() -> None:
    for rate in BIT_RATES:
        assert Settings.model_validate({"recording": {"bitrate": rate}}).recording.bitrate == rate


def test_a_tls_listener_has_a_port_of_its_own_and_needs_its_files(tmp_path: Path) -> None:
    text = '[[sip.listen]]\ntransport = "tls"\ncertificate = "pbx.pem"\nkey = "pbx.key"\n'
    (listener,) = load_settings(written(tmp_path, text)).sip.listen
    assert listener.port == 5061
    assert listener.certificate_files is not None
    (found,) = faults(written(tmp_path, text.replace('key = "pbx.key"', "")))
    assert found.startswith("line 1: sip.listen[0]: a tls listener needs a certificate and its key. Add `certificate`")
    (found,) = faults(written(tmp_path, text.replace("tls", "tcp")))
    assert "mean nothing for tcp" in found
    twice = text + '[[sip.listen]]\ntransport = "tcp"\nport = 5061\n'
    (found,) = faults(written(tmp_path, twice))
    assert "tcp 0.0.0.0:5061 is listed twice" in found


def test_the_web_server_speaks_tls_when_it_has_certificate_and_key(tmp_path: Path) -> None:
    text = '[web]\ncertificate = "pbx.pem"\ncertificate_key = "pbx.key"\n'
    settings = load_settings(written(tmp_path, text))
    assert settings.web.certificate_files is not None
    assert settings.web.is_https
    assert settings.public_url == "https://127.0.0.1:8080"
    (found,) = faults(written(tmp_path, text.replace('certificate_key = "pbx.key"', "")))
    assert found.startswith("line 1: web: speaking TLS needs a certificate and its key. Give `certificate` and")
    (found,) = faults(written(tmp_path, text + 'public_url = "http://pbx.example.org"\n'))
    assert "public_url begins with http. Write public_url with https://" in found


@pytest.mark.parametrize(("public_url", "is_https"), [
    (None, False), ("http://pbx.example.org", False), ("https://pbx.example.org", True)])
def test_a_proxy_may_speak_tls_for_it(public_url: str | None, is_https: bool) -> None:
    web = WebSettings(host="::1", public_url=public_url)
    assert (web.is_https, web.local_url(web.host, web.port)) == (is_https, "http://[::1]:8080")
