"""Proxies: what a spec may say of them, and what of their credentials never shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.build.proxy import (
    CA_LIMIT,
    ProxyPlan,
    direct_host,
    host_of,
    lent_settings,
    proxy_url,
    read_certificates,
    read_credentials,
)

PEM = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUQ\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("http://proxy.example:3128", ("proxy.example", 3128)),
        ("http://10.1.2.3:80/", ("10.1.2.3", 80)),
        ("http://[fd00::7]:8080", ("fd00::7", 8080)),
    ],
)
def test_urls_of_proxies(text: str, host: tuple[str, int]) -> None:
    assert host_of(proxy_url(text)) == host


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "proxy.example:3128",
            "http://proxy.example",
            "https://proxy.example:3128",
            "socks5://proxy.example:1080",
        ),
        *("http://proxy.example:0", "http://proxy.example:65536", "http://proxy.example:3128/path", "http://:3128"),
        *('http://proxy"example:3128', "http://proxy.example:3128\n", "http://pro xy:3128", "http://-x:3128"),
    ],
)
def test_what_is_no_url_of_a_proxy(text: str) -> None:
    with pytest.raises(ValueError, match="write http://HOST:PORT"):
        proxy_url(text)


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="under credentials") as told:
        proxy_url("http://ann:s3cr3t@proxy.example:3128")
    assert "s3cr3t" not in str(told.value)


@pytest.mark.parametrize("text", ["", "a b", "a,b", 'a"b', "http://x", "10.0.0.0/8/8"])
def test_what_is_no_direct_host(text: str) -> None:
    with pytest.raises(ValueError, match="is no host"):
        direct_host(text)


def test_certificates_are_taken_and_nothing_else() -> None:
    data = f"# ours\r\n{PEM}junk\n{PEM}".encode()
    assert read_certificates(data) == PEM * 2


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no certificate"),
        (b"-----BEGIN CERTIFICATE-----\n\0\n-----END CERTIFICATE-----", "no certificate"),
        (PEM.encode() + b"-----BEGIN RSA PRIVATE KEY-----", "private key"),  # gitleaks:allow
        (b"x" * (CA_LIMIT + 1), "more than 1 MiB"),
    ],
)
def test_files_that_hold_no_authorities(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_certificates(data)


@pytest.mark.parametrize("data", [b"", b"ann", b"ann:", b":x", b"ann:x\ny", b"ann:\xff", b"ann:" + b"x" * 5000])
def test_files_that_hold_no_credentials(data: bytes) -> None:
    with pytest.raises(ValueError, match="write") as told:
        read_credentials(data)
    assert "ann" not in str(told.value)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=20))
def test_any_password_makes_a_url_that_is_one_word(password: str) -> None:
    credentials = read_credentials(f"ann:{password}\n".encode())
    lent = lent_settings(ProxyPlan(http="http://proxy.example:3128", no_proxy=(".corp",)), credentials)
    assert lent["no_proxy"] == "localhost,127.0.0.1,::1,169.254.169.254,.corp"
    user, at, place = lent["http"].removeprefix("http://").partition("@")
    assert (at, place) == ("@", "proxy.example:3128")
    assert not set(user) & set(" \"'\\/@;,$`")


def test_a_plan_without_proxies_lends_none() -> None:
    assert lent_settings(ProxyPlan(ca="/ca.pem"), None) == {}
