"""Settings: a TOML file and SMARTSWITCH_… environment variables, validated once, frozen, handed down in parts."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from b2bua.apply.toml_lines import LocatedToml, TomlSyntax, locate
from b2bua.faults import ConfigurationFaults, Fault, Location, did_you_mean, faults_of_validation, in_order, model_at
from b2bua.net.certificates import CertificateFiles
from b2bua.sealing import SHORTEST_KEY
from b2bua.sip.effects import Address

ENVIRONMENT = "SMARTSWITCH_"
NOT_SETTINGS = frozenset({"SMARTSWITCH_CONFIG"})       # names the file itself; read by the command line
LARGEST_FILE = 1_000_000
DNS_PORT = 53
MAX_NAMESERVERS = 3                    # as many as resolv.conf may name: all of them are asked in one patience

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(ge=0, le=86400 * 366)]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _address(host: str) -> str:
    """An IP address to bind to; names may mean several, and change."""
    if not _is_address(host):
        raise ValueError(f"{host!r} is no IP address | Give an address of this machine, "
                         "\"0.0.0.0\" for all of IPv4 or \"::\" for all of IPv6.")
    return host


def _dns_server(text: str) -> Address:
    """`ADDRESS`, `ADDRESS:PORT` or `[ADDRESS]:PORT`."""
    if _is_address(text):
        return Address(text, DNS_PORT)
    host, _, port = text.rpartition(":")
    if ":" in host:
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else ""
    if not _is_address(host) or not (port.isascii() and port.isdigit() and 0 < int(port[:6]) <= 65535):
        raise ValueError(f"{text!r} is no address of a DNS server | "
                         'Write it like "192.0.2.53", "192.0.2.53:5353" or "[2001:db8::53]:5353".')
    return Address(host, int(port))


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _public_address(host: str) -> str:
    if _is_address(host) and ipaddress.ip_address(host).is_unspecified:
        raise ValueError(f"{host} means \"any address\", which nobody can send to | "
                         "Give the address that phones and trunks reach this server by.")
    return host


class ServerSettings(Section):
    data_dir: Path = Field(default=Path("var"),
        description="directory for the database, recordings, keys and what was spilled")
    drain_seconds: Seconds = Field(default=30.0,
        description="how long calls in progress may go on after SIGTERM, in seconds")


class Listener(Section):
    transport: Literal["udp", "tcp", "tls"] = Field(default="udp", description="transport of this socket")
    host: str = Field(default="0.0.0.0", description="address to bind to")  # noqa: S104 - phones come from everywhere
    port: Port = Field(default=5060, description="port to bind to (tls: 5061); 0 takes any free one")
    advertise: str | None = Field(default=None,
        description="address or name that Via and Contact show, when behind NAT")
    certificate: Path | None = Field(default=None,
        description="tls: our certificate and those between it and the root, PEM; a changed file is taken by itself")
    key: Path | None = Field(default=None, description="tls: the private key of the certificate, PEM, not encrypted")
    client_ca: Path | None = Field(default=None,
        description="tls: who connects must show a certificate of these authorities, PEM; default: nobody must")

    _host = field_validator("host")(_address)
    _advertise = field_validator("advertise")(_public_address)

    @model_validator(mode="before")
    @classmethod
    def _tls_has_a_port_of_its_own(cls, given: Any) -> Any:
        """RFC 3261 §19.1.2."""
        if isinstance(given, dict) and given.get("transport") == "tls":
            return {"port": 5061, **given}
        return given

    @model_validator(mode="after")
    def _certificates_are_for_tls(self) -> Self:
        if self.transport == "tls":
            if self.certificate is None or self.key is None:
                raise ValueError("a tls listener needs a certificate and its key | "
                                 "Add `certificate` and `key`, the paths of two PEM files.")
        elif self.certificate or self.key or self.client_ca:
            raise ValueError(f"`certificate`, `key` and `client_ca` mean nothing for {self.transport} | "
                             'Say `transport = "tls"`, or take them out.')
        return self

    @property
    def certificate_files(self) -> CertificateFiles | None:
        """Of a tls listener."""
        if self.certificate is None or self.key is None:
            return None
        return CertificateFiles(self.certificate, self.key, self.client_ca)


# How the tools that look for open servers name themselves, unless their users take care.
SCANNERS = ("friendly-scanner", "sipvicious", "sipcli", "sip-scan", "sundayddr", "pplsip", "siparmyknife", "sipsak")


class SipSettings(Section):
    listen: tuple[Listener, ...] = Field(default=(Listener(transport="udp"), Listener(transport="tcp")), min_length=1,
                                         description="sockets for SIP")
    realm: str = Field(default="smartswitch", min_length=1, max_length=100, pattern=r'^[^"\\\x00-\x1f]+$',
                       description="realm of the phones' passwords; changing it means applying all passwords again")
    user_agent: str = Field(default="Smartswitch", max_length=100, pattern=r"^[\x20-\x7e]*$",
                            description="what User-Agent and Server say; empty: nothing")
    t1: float = Field(default=0.5, ge=0.01, le=10,
        description="RFC 3261 T1, the estimate of the round trip, in seconds")
    max_calls: int = Field(default=1000, ge=1, le=1_000_000, description="calls at once on the whole server")
    register_min: int = Field(default=60, ge=1, description="shortest registration granted, in seconds (else 423)")
    register_default: int = Field(default=300, ge=1,
        description="registration when the phone names no time, in seconds")
    register_max: int = Field(default=3600, ge=1, description="longest registration granted, in seconds")
    qualify_every: Annotated[float, Field(ge=0, le=86400)] = Field(default=60.0,
        description="seconds between two OPTIONS to a registered phone, to see whether it can be reached; 0: none")
    session_expires: int = Field(default=1800, ge=90, le=86400, description="session timer of RFC 4028, in seconds")
    algorithms: tuple[Literal["MD5", "SHA-256"], ...] = Field(default=("MD5",), min_length=1, max_length=2,
        description="digest algorithms offered to phones, in this order; many phones fail at any that they do not know")
    unknown_calls: Literal["challenge", "refuse", "silence"] = Field(default="challenge",
        description="calls from an address of no trunk and no registered phone: 401, 403, or no answer")
    allow_without_qop: bool = Field(default=False,
        description="accept old phones whose digest answers have no qop (RFC 2069), nor always name whom they call")
    scanners: tuple[str, ...] = Field(default=SCANNERS, max_length=100,
        description="parts of User-Agent, in any case, by which scanners are known: no answer, and a ban")
    nameservers: tuple[str, ...] = Field(default=(), max_length=MAX_NAMESERVERS,
        description="DNS servers for the names of trunks and phones, by address, with a port where it is not 53; "
                    "default: those of the system")

    @property
    def dns_servers(self) -> tuple[Address, ...]:
        return tuple(map(_dns_server, self.nameservers))

    @model_validator(mode="after")
    def _registration_times_are_ordered(self) -> Self:
        if not self.register_min <= self.register_default <= self.register_max:
            raise ValueError(f"register_min ({self.register_min}), register_default ({self.register_default}) and "
                             f"register_max ({self.register_max}) are out of order | "
                             "Make register_min <= register_default <= register_max.")
        return self

    @field_validator("scanners")
    @classmethod
    def _no_scanner_is_everybody(cls, scanners: tuple[str, ...]) -> tuple[str, ...]:
        if any(len(name.strip()) < 3 for name in scanners):
            raise ValueError("a name of less than 3 characters is in many a good phone's User-Agent | "
                             "Write more of the scanner's User-Agent.")
        return scanners

    @field_validator("nameservers")
    @classmethod
    def _nameservers_have_addresses(cls, nameservers: tuple[str, ...]) -> tuple[str, ...]:
        for one in nameservers:
            _dns_server(one)
        return nameservers

    @field_validator("listen")
    @classmethod
    def _listeners_differ(cls, listen: tuple[Listener, ...]) -> tuple[Listener, ...]:
        seen: set[tuple[str, str, int]] = set()
        for one in listen:
            key = ("udp" if one.transport == "udp" else "tcp", one.host, one.port)
            if one.port and key in seen:
                raise ValueError(f"{one.transport} {one.host}:{one.port} is listed twice | Remove one of the two.")
            seen.add(key)
        return listen


class MediaSettings(Section):
    plane: Literal["embedded", "none"] = Field(default="embedded",
        description="who relays RTP; \"none\": SDP passes unchanged")
    host: str = Field(default="0.0.0.0", description="address that RTP ports are bound to")  # noqa: S104 - as for SIP
    advertise: str | None = Field(default=None, description="address in the SDP, when behind NAT or `host` is 0.0.0.0")
    port_min: int = Field(default=16384, ge=1024, le=65535, description="first RTP port")
    port_max: int = Field(default=32767, ge=1024, le=65535, description="last RTP port; a call takes 4")
    sounds: Path | None = Field(default=None,
        description="directory of WAV files that announcements and music on hold may name, beside the built-in sounds")
    rtp_timeout: float = Field(default=60.0, ge=1, le=86400,
        description="end a call after so many seconds without RTP")
    hold_timeout: float = Field(default=300.0, ge=1, le=86400, description="the same while on hold")

    _host = field_validator("host")(_address)
    _advertise = field_validator("advertise")(_public_address)

    @model_validator(mode="after")
    def _ports_suffice(self) -> Self:
        if self.port_max - self.port_min < 3:
            raise ValueError(f"{self.port_min} to {self.port_max} are too few ports for one call | "
                             "Make port_max at least port_min + 3, better + 4 for each call at once.")
        return self


class RecordingSettings(Section):
    directory: Path | None = Field(default=None,
        description="where recordings are kept; default `recordings` in data_dir")
    bitrate: Literal[16, 24, 32, 40, 48, 56, 64] = Field(default=32,
        description="of the MP3 files, kbit/s for both sides together")
    workers: int = Field(default=1, ge=1, le=32, description="processes that finish recordings")
    keep_days: int = Field(default=0, ge=0, le=36500, description="delete recordings after so many days; 0: never")


class DatabaseSettings(Section):
    url: SecretStr | None = Field(default=None,
        description="sqlite:///path or postgresql://user:password@host/name; default: a SQLite file in data_dir")
    secret_keys: tuple[SecretStr, ...] = Field(default=(), max_length=10,
        description="keys of the CRM's tokens and secrets in the database: the first one seals, all of them open; made "
                    "and kept in data_dir when absent")
    keep_changes_days: int = Field(default=1095, ge=0, le=36500,
        description="forget who changed what of a client's set-up after so many days; 0: never")

    @field_validator("secret_keys")
    @classmethod
    def _are_keys(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(len(key.get_secret_value()) < SHORTEST_KEY for key in keys):
            raise ValueError(f"a key of less than {SHORTEST_KEY} characters could be guessed | "
                             "Make one with `openssl rand -base64 32`.")
        return keys

    @field_validator("url")
    @classmethod
    def _known_database(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            database_url(url.get_secret_value())
        return url


def database_url(url: str) -> str:
    """The URL with our asynchronous driver named. Raises ValueError for databases that we do not know."""
    scheme, separator, rest = url.partition("://")
    drivers = {"sqlite": "sqlite+aiosqlite", "postgres": "postgresql+asyncpg", "postgresql": "postgresql+asyncpg"}
    driver = drivers.get(scheme, scheme)
    if not separator or driver not in drivers.values():
        raise ValueError("this is no database that is supported | "
                         "Use sqlite:///path/to/file.db or postgresql://user:password@host/name.")
    return f"{driver}://{rest}"


class WebSettings(Section):
    host: str = Field(default="127.0.0.1",
        description="address of the web server; keep it on loopback behind a TLS proxy, unless it has a certificate")
    port: Port = Field(default=8080, description="port of the web server; 0 takes any free one")
    public_url: str | None = Field(default=None,
        description="how browsers reach it (https://pbx.example.org): links to recordings begin so; default "
                    "http://host:port, https with a certificate")
    certificate: Path | None = Field(default=None,
        description="our certificate and those between it and the root, PEM, to speak TLS without a proxy; a changed "
                    "file is taken by itself")
    certificate_key: Path | None = Field(default=None,
        description="the private key of the certificate, PEM, not encrypted")
    link_days: int = Field(default=0, ge=0, le=36500,
        description="how long a link to a recording that is written into the CRM opens, in days; 0: for ever")
    link_key: SecretStr | None = Field(default=None,
        description="key of the recording links; made and kept in data_dir when absent; changing it breaks all links")
    operator_password: SecretStr | None = Field(default=None,
        description="sign-in to the pages, plain or an argon2id hash; made and kept in data_dir when absent")
    metrics_from: tuple[Network, ...] = Field(
        default=(ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")),
        description="networks that may read /metrics without signing in")
    trusted_proxies: tuple[Network, ...] = Field(default=(),
        description="proxies whose X-Forwarded-… headers are believed")

    _host = field_validator("host")(_address)

    @field_validator("public_url")
    @classmethod
    def _is_a_web_address(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{url!r} is no address of a web server | Write it like https://pbx.example.org.")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.certificate is None) != (self.certificate_key is None):
            raise ValueError("speaking TLS needs a certificate and its key | "
                             "Give `certificate` and `certificate_key`, the paths of two PEM files, or neither.")
        if self.certificate is not None and (self.public_url or "").startswith("http:"):
            raise ValueError("with a certificate the web server speaks https, and public_url begins with http | "
                             "Write public_url with https://.")
        return self

    @property
    def certificate_files(self) -> CertificateFiles | None:
        if self.certificate is None or self.certificate_key is None:
            return None
        return CertificateFiles(self.certificate, self.certificate_key)

    @property
    def is_https(self) -> bool:
        """For browsers: by our own certificate, or by a proxy's."""
        return self.certificate is not None or (self.public_url or "").startswith("https:")

    def local_url(self, host: str, port: int) -> str:
        """Where it listens, without what may stand before it."""
        return f"http{'s' if self.certificate else ''}://{f'[{host}]' if ':' in host else host}:{port}"

    @field_validator("link_key", "operator_password")
    @classmethod
    def _is_long_enough(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value()) < 12:
            raise ValueError("it is too short to be a secret | "
                             "Use 12 characters or more, or leave it out: one is made.")
        return secret


class LogSettings(Section):
    level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = Field(default="info",
        description="the least important lines written")
    format: Literal["json", "console"] = Field(default="json", description="one JSON object a line, or for human eyes")
    sip_trace: bool = Field(default=False, description="log every SIP message, credentials masked")
    call_trace_days: int = Field(default=7, ge=0, le=3650,
        description="keep what was said in each call for so many days, for `smartswitch trace`; 0: note nothing of it")


class Settings(BaseSettings):
    """All of them. Defaults run the embedded system with no file at all."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=ENVIRONMENT, env_nested_delimiter="__",
                                      env_ignore_empty=True, hide_input_in_errors=True)

    server: ServerSettings = ServerSettings()
    sip: SipSettings = SipSettings()
    media: MediaSettings = MediaSettings()
    recording: RecordingSettings = RecordingSettings()
    database: DatabaseSettings = DatabaseSettings()
    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given in the call alone: load_settings has laid the environment over the file already, so that
        tests and the demo, which call this class, do not depend on their surroundings."""
        return (init_settings,)

    @property
    def recording_dir(self) -> Path:
        return self.recording.directory or self.server.data_dir / "recordings"

    @property
    def token_spill(self) -> Path:
        """Where tokens of the CRM go that the database does not take, whichever process has got them."""
        return self.server.data_dir / "spill.tokens"

    @property
    def database_url(self) -> str:
        if self.database.url is not None:
            return database_url(self.database.url.get_secret_value())
        return f"sqlite+aiosqlite:///{self.server.data_dir / 'smartswitch.db'}"

    @property
    def public_url(self) -> str:
        return self.web.public_url or self.web.local_url(self.web.host, self.web.port)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was read, whether it is right or not."""

    settings: Settings                 # sections with faults are at their defaults
    toml: LocatedToml
    faults: tuple[Fault, ...]
    faulty: frozenset[str]             # sections


def load_settings(path: Path | None = None) -> Settings:
    """The file, overlaid by the environment. Raises ConfigurationFaults with everything that is wrong."""
    loaded = load(path)
    if loaded.faults:
        raise ConfigurationFaults(loaded.faults)
    return loaded.settings


def load(path: Path | None = None) -> Loaded:
    """Raises ConfigurationFaults only when there is nothing to read."""
    toml = _read(path) if path is not None else LocatedToml({}, {})
    given, names, faults = _environment()
    # Unknown sections are named here: BaseSettings takes some words (`_env_file`) for arguments of its own.
    faults += [Fault(toml.line((key,)), key, "there is no such section", did_you_mean(key, list(Settings.model_fields)))
               for key in toml.data if key not in Settings.model_fields]
    sections = _overlaid({key: toml.data[key] for key in Settings.model_fields if key in toml.data}, given)
    faulty: set[str] = set()
    try:
        Settings(**sections)
    except ValidationError as error:
        faults += faults_of_validation(error, Settings, toml, names)
        faulty = {str(item["loc"][0]) for item in error.errors() if item["loc"]}
    right = {name: section for name, section in sections.items() if name not in faulty}
    return Loaded(Settings(**right), toml, tuple(in_order(faults)), frozenset(faulty))


def _overlaid(file: dict[str, Any], environment: dict[str, Any]) -> dict[str, Any]:
    merged = dict(file)
    for section, given in environment.items():
        if isinstance(below := file.get(section, {}), dict):
            merged[section] = {**below, **given}
    return merged


def _read(path: Path) -> LocatedToml:
    return read_toml(path, "Give the right path with --config, or leave it out to run on defaults.")


def read_toml(path: Path, remedy: str) -> LocatedToml:
    """Raises ConfigurationFaults when there is no such file, or it is no TOML."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ConfigurationFaults([Fault(None, str(path), f"it is larger than {LARGEST_FILE} bytes", remedy)])
        return locate(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationFaults([Fault(None, str(path), error.strerror or str(error), remedy)]) from error
    except UnicodeDecodeError as error:
        raise ConfigurationFaults([Fault(None, str(path), "it is not UTF-8 text", "Save it as UTF-8.")]) from error
    except TomlSyntax as error:
        raise ConfigurationFaults([Fault(error.line, "", f"this is no TOML: {error}",
                                         "See https://toml.io for how it is written.")]) from error


def setting_names() -> list[Location]:
    """Every setting that there is, as (section, field)."""
    return [(section, field) for section in Settings.model_fields
            for field in (model_at(Settings, (section,)) or Section).model_fields]


def variable_of(location: Location) -> str:
    return ENVIRONMENT + "__".join(str(part) for part in location).upper()


def _environment() -> tuple[dict[str, Any], dict[Location, str], list[Fault]]:
    """What the environment gives, the variable behind each setting, and the variables that mean nothing."""
    variables = {variable_of(location): location for location in setting_names()}
    names: dict[Location, str] = {}
    faults: list[Fault] = []
    for name in sorted(os.environ):
        if name in variables:
            names[variables[name]] = name
        elif name.startswith(ENVIRONMENT) and name not in NOT_SETTINGS:
            faults.append(Fault(None, name, "no setting has this environment variable",
                                did_you_mean(name, list(variables), "See docs/configuration.md for their names.")))
    given = _EnvironmentSource(Settings)() if names else {}
    known = {section: {field: value for field, value in fields.items() if (section, field) in names}
             for section, fields in given.items()}
    return known, names, faults


class _EnvironmentSource(EnvSettingsSource):
    """Lists are JSON; what is no JSON stays text, so that validation names it beside all other faults."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value
