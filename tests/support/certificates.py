"""An authority that lives for one test: it issues certificates, into files, as daemons and phones want them."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from b2bua.net.certificates import CertificateFiles

DAY = timedelta(days=1)


class Authority:
    def __init__(self, directory: Path, name: str = "Test CA") -> None:
        self._directory = directory
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = directory / f"{name.replace(' ', '-')}.pem"
        usage = x509.KeyUsage(
            digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
        )   # fmt: skip
        now = datetime.now(UTC)
        own = (
            x509.CertificateBuilder()
            .subject_name(self._name).issuer_name(self._name).public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY).not_valid_after(now + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, SHA256())
        )   # fmt: skip
        self.file.write_bytes(own.public_bytes(Encoding.PEM))

    def issue(
        self, name: str, *subject: x509.GeneralName, since: timedelta = -DAY, until: timedelta = 30 * DAY,
        passphrase: bytes | None = None,
    ) -> CertificateFiles:   # fmt: skip
        """Into NAME.pem and NAME.key, anew each time. `subject` is what subjectAltName says."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])).issuer_name(self._name)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now + since).not_valid_after(now + until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )   # fmt: skip
        if subject:
            builder = builder.add_extension(x509.SubjectAlternativeName(subject), critical=False)
        files = CertificateFiles(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        files.certificate.write_bytes(builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM))
        encryption = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        return files

    def client(self, shown: CertificateFiles | None = None) -> ssl.SSLContext:
        """A peer's that trusts this authority, and does not look at names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self.file)
        if shown is not None:
            context.load_cert_chain(shown.certificate, shown.key)
        return context

    def server(self, shown: CertificateFiles, *, demands: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(shown.certificate, shown.key)
        if demands:
            context.load_verify_locations(self.file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def dns(*names: str) -> Sequence[x509.GeneralName]:
    return [x509.DNSName(name) for name in names]


def uri(*texts: str) -> Sequence[x509.GeneralName]:
    return [x509.UniformResourceIdentifier(text) for text in texts]


def ip(*addresses: str) -> Sequence[x509.GeneralName]:
    return [x509.IPAddress(ip_address(address)) for address in addresses]
