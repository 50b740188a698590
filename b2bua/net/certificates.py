"""Certificates of ours and of others: read, checked, made into TLS contexts, replaced when their files change.

Who a peer must be is RFC 5922's: the SIP domain stands in subjectAltName, as a SIP URI or as a DNS name.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from b2bua.phrases import Phrase
from b2bua.sip.effects import TlsPeer
from b2bua.sip.grammar import ParseError
from b2bua.sip.uri import Uri

LARGEST_FILE: Final = 1_000_000         # bytes; the whole list of the system's authorities is a quarter of it
MAX_CONTEXTS: Final = 256               # of trunks with files of their own
_UNREADABLE: Final = {errno.ENOENT: Phrase("it is not there"), errno.EISDIR: Phrase("it is a folder"),
                      errno.EACCES: Phrase("its rights forbid it")}

Stamp = tuple[tuple[int, int, int], ...]        # of files: time of change, size, inode

log = logging.getLogger(__name__)


class UnusableCertificate(OSError):
    """One sentence: these files make no TLS."""


@dataclass(frozen=True, slots=True)
class CertificateFault:
    setting: str                        # "certificate", "key", "client_ca", "ca_file"
    problem: Phrase
    remedy: Phrase

    def __str__(self) -> str:
        return f"{self.problem}. {self.remedy}"


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """What a listener shows, and whose certificates it demands of those who come: nobody's, when there is no
    `client_ca`."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def __iter__(self) -> Iterator[Path]:
        return iter((self.certificate, self.key, *(() if self.client_ca is None else (self.client_ca,))))


def faults_of(files: CertificateFiles, now: datetime) -> list[CertificateFault]:
    """Everything that keeps these files from serving TLS now."""
    faults = _faults_of_own(files.certificate, files.key, now)
    if files.client_ca is not None and isinstance(ca := _certificates(files.client_ca, "client_ca"), CertificateFault):
        faults.append(ca)
    return faults


def faults_of_client(ca_file: str, certificate: str, key: str, now: datetime) -> list[CertificateFault]:
    """The same for what we show as a client, and believe; "" for a file that is not named. A fault's setting is
    "ca_file", "certificate" or "key"."""
    faults = []
    if ca_file and isinstance(ca := _certificates(Path(ca_file), "ca_file"), CertificateFault):
        faults.append(ca)
    return faults + (_faults_of_own(Path(certificate), Path(key), now) if certificate and key else [])


def _faults_of_own(certificate: Path, key_file: Path, now: datetime) -> list[CertificateFault]:
    chain = _certificates(certificate, "certificate")
    key = _key(key_file)
    faults = [found for found in (chain, key) if isinstance(found, CertificateFault)]
    if not isinstance(chain, CertificateFault):
        faults += _time_faults(chain[0], certificate, now)
        if not isinstance(key, CertificateFault) and _public(key.public_key()) != _public(chain[0].public_key()):
            faults.append(CertificateFault("key", Phrase("{key} is not the key of {certificate}", key=key_file,
                                                         certificate=certificate),
                                           Phrase("Name the key that the certificate was made for.")))
    return faults


def expiry(certificate: Path) -> datetime | None:
    """Until when it is good; None when it cannot be read."""
    chain = _certificates(certificate, "certificate")
    return None if isinstance(chain, CertificateFault) else chain[0].not_valid_after_utc


def _certificates(path: Path, setting: str) -> list[x509.Certificate] | CertificateFault:
    data = _read(path, setting)
    if isinstance(data, CertificateFault):
        return data
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        return CertificateFault(setting, Phrase("{path} holds no certificate", path=path),
                                Phrase("It has to be PEM text: the certificate first, then those between it and the "
                                       "root."))


def _key(path: Path) -> PrivateKeyTypes | CertificateFault:
    data = _read(path, "key")
    if isinstance(data, CertificateFault):
        return data
    try:
        return load_pem_private_key(data, None)
    except TypeError:
        return CertificateFault("key", Phrase("the key in {path} is encrypted", path=path),
                                Phrase("Take the passphrase off it (openssl pkey), and leave it readable to the daemon "
                                       "alone."))
    except (ValueError, UnsupportedAlgorithm):
        return CertificateFault("key", Phrase("{path} holds no private key", path=path),
                                Phrase("It has to be PEM text, of an RSA or EC key."))


def _read(path: Path, setting: str) -> bytes | CertificateFault:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_FILE)
    except OSError as error:
        return CertificateFault(setting, Phrase("{path} cannot be read: {why}", path=path,
                                                why=_UNREADABLE.get(error.errno or 0, error.strerror or str(error))),
                                Phrase("Give the right path, and the daemon's user the right to read it."))


def _time_faults(certificate: x509.Certificate, path: Path, now: datetime) -> Iterator[CertificateFault]:
    if now > certificate.not_valid_after_utc:
        yield CertificateFault("certificate", Phrase("{path} expired on {day:%Y-%m-%d}", path=path,
                                                     day=certificate.not_valid_after_utc),
                               Phrase("Renew it; the daemon takes the new file by itself."))
    elif now < certificate.not_valid_before_utc:
        yield CertificateFault("certificate", Phrase("{path} is valid from {day:%Y-%m-%d} only", path=path,
                                                     day=certificate.not_valid_before_utc),
                               Phrase("See whether this machine's clock is right."))


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


# -- as a server


class ServerIdentity:
    """The context that new connections to a listener get; those that are up keep theirs."""

    def __init__(self, files: CertificateFiles) -> None:
        """Raises UnusableCertificate."""
        self.files = files
        self._stamp = _stamp(files)
        self.context = _server_context(files)
        self.good_until = self._good_until()

    def refresh(self, now: datetime) -> None:
        """Take the files when they have changed and are good. Reads files: not for the loop's own thread."""
        stamp = _stamp(self.files)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        what = {"certificate": str(self.files.certificate)}
        try:
            if faults := faults_of(self.files, now):
                raise UnusableCertificate(" ".join(map(str, faults)))
            self.context, self.good_until = _server_context(self.files), self._good_until()
        except UnusableCertificate as error:
            log.error("new TLS certificate not taken, the old one stays", extra={**what, "why": str(error)})
            return
        log.info("new TLS certificate taken", extra={**what, "good_until": str(self.good_until)})

    def _good_until(self) -> datetime:
        until = expiry(self.files.certificate)
        if until is None:
            raise UnusableCertificate(f"{self.files.certificate} changed while it was read")
        return until


def _server_context(files: CertificateFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
        if files.client_ca is not None:
            context.load_verify_locations(files.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:
        raise UnusableCertificate(f"{files.certificate}, {files.key}: {error}") from error
    return context


def _no_password() -> str:
    """Else OpenSSL would ask for it at the terminal."""
    raise ValueError("the key is encrypted")


# -- as a client


class ClientContexts:
    """A context for each set of files that trunks name, made anew when they have changed."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str], tuple[Stamp, ssl.SSLContext]] = {}

    async def of(self, peer: TlsPeer) -> ssl.SSLContext:
        """Raises UnusableCertificate."""
        return await asyncio.to_thread(self._load, peer.ca_file, peer.certificate, peer.key)

    def _load(self, *files: str) -> ssl.SSLContext:
        ca_file, certificate, key = files
        stamp = _stamp([Path(file) for file in files if file])
        known = self._known.get((ca_file, certificate, key))
        if known is not None and known[0] == stamp:
            return known[1]
        try:
            context = _client_context(ca_file, certificate, key)
        except UnusableCertificate as error:
            if known is None:
                raise
            log.warning("new TLS files of a trunk not taken, the old ones stay", extra={"why": str(error)})
            context = known[1]
        if len(self._known) >= MAX_CONTEXTS:
            self._known.pop(next(iter(self._known)))
        self._known[ca_file, certificate, key] = stamp, context
        return context


def _client_context(ca_file: str, certificate: str, key: str) -> ssl.SSLContext:
    """Who is at the other end is checked by `names_any`, as SIP's rules are not HTTPS's (RFC 5922 §7.2)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if ca_file:
            context.load_verify_locations(ca_file)
        else:
            context.load_default_certs()
        if certificate:
            context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        names = ", ".join(file for file in (ca_file, certificate, key) if file)
        raise UnusableCertificate(f"{names}: {error}") from error
    return context


def names_any(names: Sequence[tuple[str, str]], wanted: Sequence[str]) -> bool:
    """Whether a certificate with these subjectAltNames is one of a SIP domain that is wanted (RFC 5922 §7.1, §7.2).

    A SIP URI in it speaks for its domain, and silences the DNS names then: it was made for SIP.
    """
    domains = {name.strip("[]").rstrip(".").lower() for name in wanted}
    uris = [domain for kind, name in names if kind == "URI" and (domain := _sip_domain(name)) is not None]
    if uris:
        return not domains.isdisjoint(uris)
    return any(_is_named(kind, name.lower(), domain) for kind, name in names for domain in domains)


def _sip_domain(text: str) -> str | None:
    """§7.1: the host of a sip URI without user; anything else says nothing about a domain."""
    try:
        uri = Uri.parse(text)
    except ParseError:
        return None
    return uri.host.lower() if uri.scheme == "sip" and not uri.user else None


def _is_named(kind: str, name: str, domain: str) -> bool:
    if kind == "IP Address":
        return _is_same_address(name, domain)
    if kind != "DNS":
        return False
    if name.startswith("*."):
        # Deviation: RFC 5922 §7.2 knows no wildcards. Operators show the certificate that they bought for their web
        # servers; it is taken for one label, as RFC 9525 §6.3 takes it.
        label, dot, rest = domain.partition(".")
        return bool(label and dot) and rest == name[2:] and "." in rest
    return name.rstrip(".") == domain


def _is_same_address(one: str, other: str) -> bool:
    try:
        return ip_address(one.strip()) == ip_address(other)
    except ValueError:
        return False


def _stamp(files: Sequence[Path] | CertificateFiles) -> Stamp:
    return tuple(_stamp_of(file) for file in files)


def _stamp_of(file: Path) -> tuple[int, int, int]:
    try:
        found = os.stat(file)
    except OSError:
        return (0, 0, 0)
    return found.st_mtime_ns, found.st_size, found.st_ino


def utc_now() -> datetime:
    return datetime.now(UTC)
