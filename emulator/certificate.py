"""A certificate for loopback, for clients that speak TLS alone (gsutil)."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .http_server import LOOPBACK
from .secret_files import made_once, write_secret

_LIFETIME = datetime.timedelta(days=3650)


@dataclass(frozen=True)
class Certificate:
    """A key with a certificate that it has signed itself; `file` holds both, `ca_file` the certificate alone."""

    file: Path
    ca_file: Path

    def server_context(self) -> ssl.SSLContext:
        """Give what a server needs to speak TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file)
        return context


def loopback_certificate(folder: Path) -> Certificate:
    """Give the certificate for 127.0.0.1 and localhost, made once below a folder; clients must trust its `ca_file`."""
    pem = made_once(folder / "loopback.pem", _key_and_certificate)
    made = Certificate(folder / "loopback.pem", folder / "loopback-ca.pem")
    write_secret(made.ca_file, pem[pem.index(b"-----BEGIN CERTIFICATE-----") :])  # no secret, but its clients are ours
    return made


def _key_and_certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem + _self_signed(key).public_bytes(serialization.Encoding.PEM)


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Goldsmith's emulator")])
    names = [x509.IPAddress(ipaddress.ip_address(LOOPBACK)), x509.DNSName("localhost")]
    now = datetime.datetime.now(datetime.UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _LIFETIME)
    )
    # Python 3.13 and later verify strictly: they want the identifiers and the usages said.
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    for extension, critical in (
        (x509.SubjectAlternativeName(names), False),
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (usage, True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (identifier, False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False),
    ):
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, hashes.SHA256())
