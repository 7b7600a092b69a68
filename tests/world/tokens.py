"""Google's part in identity tokens: keys that sign them, and the page with their certificates."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from google.auth import crypt, jwt
from google.auth.crypt import es

from shared.build.image.approval import audience_of

DEPLOYMENT = "my-project"
SERVICE = "/projects/1/locations/us-central1/services/goldsmith-dashboard"


class SigningKey:
    """A key, with the certificate that Google would show for it."""

    def __init__(self, name: str) -> None:
        self.name = name
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._signer = crypt.RSASigner.from_string(pem.decode(), name)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "federated-signon.system")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=14))
            .sign(key, hashes.SHA256())
        )
        self.certificate = certificate.public_bytes(serialization.Encoding.PEM).decode()

    def token(self, mail: str, purpose: str, **claims: object) -> str:
        """Sign a token as Google does for a service account; other claims as they are given."""
        now = int(time.time())
        about = {
            "iss": "https://accounts.google.com",
            "aud": audience_of(DEPLOYMENT, purpose),
            "azp": "104729104729",
            "sub": "104729104729",
            "email": mail,
            "email_verified": True,
            "iat": now,
            "exp": now + 3600,
        }
        signed: bytes = jwt.encode(self._signer, {**about, **claims})
        return signed.decode()


class ProxyKey:
    """A key of Identity-Aware Proxy, of which the page shows the public part."""

    def __init__(self, name: str) -> None:
        self.name = name
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._signer = es.EsSigner.from_string(pem.decode(), name)
        self.certificate = (
            key.public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )

    def assertion(self, mail: str, audience: str = SERVICE, **claims: object) -> str:
        """Sign what Identity-Aware Proxy says of a person; other claims as they are given."""
        now = int(time.time())
        about = {
            "iss": "https://cloud.google.com/iap",
            "aud": audience,
            "sub": "accounts.google.com:104729",
            "email": mail,
            "iat": now,
            "exp": now + 600,
        }
        signed: bytes = jwt.encode(self._signer, {**about, **claims})
        return signed.decode()


@dataclass
class CertificatesPage:
    """The page of certificates; `body` is what it shows."""

    url: str = ""
    body: bytes = b"{}"
    status: int = 200
    cache: str = "public, max-age=19000, must-revalidate"
    calls: list[str] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)  # answers wait for it

    def show(self, *keys: SigningKey | ProxyKey) -> None:
        self.body = json.dumps({key.name: key.certificate for key in keys}).encode()


@contextmanager
def certificates_page(*keys: SigningKey | ProxyKey) -> Iterator[CertificatesPage]:
    """Serve the page for the length of a block."""
    page = CertificatesPage()
    page.gate.set()
    page.show(*keys)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page.calls.append(self.path)
            page.gate.wait(30.0)
            self.send_response(page.status)
            if page.status == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Cache-Control", page.cache)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            self.wfile.write(page.body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        page.url = f"http://127.0.0.1:{server.server_address[1]}/oauth2/v1/certs"
        try:
            yield page
        finally:
            server.shutdown()
            thread.join()
