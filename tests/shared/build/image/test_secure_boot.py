"""Keys of Secure Boot as specs have them: certificates and signature lists, and never a private key."""

from __future__ import annotations

import base64
import subprocess

import pytest

from shared.build.image.secure_boot import LONGEST_KEY, BootKey, read_boot_key


def openssl(*arguments: str, data: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *arguments], input=data, check=True, capture_output=True).stdout


def private_key() -> bytes:
    return openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")


def test_a_certificate_of_openssl() -> None:
    key = private_key()
    pem = openssl("req", "-x509", "-new", "-key", "/dev/stdin", "-subj", "/CN=db", "-days", "1", data=key).decode()
    read = read_boot_key(pem)
    assert read.kind == "X509"
    assert base64.b64decode(read.content) == openssl("x509", "-outform", "DER", data=pem.encode())
    assert read_boot_key(base64.b64encode(base64.b64decode(read.content)).decode()) == read


def test_signature_lists_are_taken_as_they_are() -> None:
    assert read_boot_key("AAEC\nAw==\n") == BootKey("AAECAw==", "BIN")


@pytest.mark.parametrize("form", ["pem", "base64 of pem", "pkcs8 der", "pkcs1 der"])
def test_a_private_key_is_refused_in_every_form(form: str) -> None:
    key = private_key()
    text = {
        "pem": lambda: key,
        "base64 of pem": lambda: base64.b64encode(key),
        "pkcs8 der": lambda: base64.b64encode(openssl("pkcs8", "-topk8", "-nocrypt", "-outform", "DER", data=key)),
        "pkcs1 der": lambda: base64.b64encode(openssl("rsa", "-traditional", "-outform", "DER", data=key)),
    }[form]()
    with pytest.raises(ValueError, match="private key, which an image must not have"):
        read_boot_key(text.decode())


def test_what_is_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match=f"has {LONGEST_KEY + 1} bytes"):
        read_boot_key(base64.b64encode(bytes(LONGEST_KEY + 1)).decode())
