"""Identity tokens: which ones prove a mail address, and what is said of the others; certificates are fetched once."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.errors import InputError, Transient
from shared.gcp.identities import GoogleIdentities, ProxiedPeople
from tests.world.fakes import FakeClock
from tests.world.tokens import DEPLOYMENT, SERVICE, CertificatesPage, ProxyKey, SigningKey, certificates_page

PURPOSE = "approve/my-project/web-1/4711/prod/1"
KEY, OTHER_KEY = SigningKey("a1"), SigningKey("b2")


@pytest.fixture
def page() -> Iterator[CertificatesPage]:
    with certificates_page(KEY) as shown:
        yield shown


@pytest.fixture
def identities(page: CertificatesPage) -> GoogleIdentities:
    return GoogleIdentities(DEPLOYMENT, page.url)


def test_a_token_proves_a_mail_address_and_certificates_are_kept(
    identities: GoogleIdentities, page: CertificatesPage
) -> None:
    for _ in range(3):
        assert identities.mail_of(KEY.token("Ann@Example.com", PURPOSE), PURPOSE) == "ann@example.com"
    assert page.calls == ["/oauth2/v1/certs"]


@pytest.mark.parametrize(
    ("claims", "text"),
    [
        ({"iss": "https://accounts.example.com"}, r"by 'https://accounts\.example\.com', and not by https://acc"),
        ({"aud": "goldsmith/other-project/" + PURPOSE}, f"and not for goldsmith/my-project/{PURPOSE}: gcloud"),
        ({"aud": f"goldsmith/{DEPLOYMENT}/refuse/my-project/web-1/4711/prod/1"}, "the token is for 'goldsmith/my-p"),
        ({"aud": [f"goldsmith/{DEPLOYMENT}/{PURPOSE}", "other"]}, "the token is for"),
        ({"aud": "32555940559.apps.googleusercontent.com"}, "a person's own login gives tokens for gcloud alone"),
        ({"aud": None}, "the token is for 'None'"),
        ({"email": None}, "proves no mail address: gcloud auth print-identity-token --imp.* --include-email --aud"),
        ({"email_verified": False}, "proves no mail address"),
        ({"email_verified": "true"}, "proves no mail address"),
        ({"exp": 1700000000}, "the token does not count: Token expired"),
        ({"iat": time.time() + 3600}, "the token does not count: Token used too early"),
        ({"exp": None}, "is no JSON Web Token"),
        ({"iat": "now"}, "is no JSON Web Token"),
    ],
)
def test_a_token_that_does_not_count_says_why(
    identities: GoogleIdentities, claims: dict[str, object], text: str
) -> None:
    with pytest.raises(InputError, match=text):
        identities.mail_of(KEY.token("ann@example.com", PURPOSE, **claims), PURPOSE)


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def forged() -> list[str]:
    good = KEY.token("ann@example.com", PURPOSE)
    header, payload, signature = good.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    other = part({**claims, "email": "bob@example.com"})
    return [
        "",
        "a.b.c",
        "....",
        good[:-8],
        f"{header}.{other}.{signature}",
        f"{part({'alg': 'none', 'kid': 'a1'})}.{payload}.",
        f"{part({'alg': 'HS256', 'kid': 'a1'})}.{payload}.{signature}",
        f"{part({'alg': 'ES256', 'kid': 'a1'})}.{payload}.{signature}",
        f"{part({'alg': 'RS256'})}.{payload}.{signature}",
        f"{part({'alg': 'RS256', 'kid': ['a1']})}.{payload}.{signature}",
        f"{part(['RS256'])}.{payload}.{signature}",
        f"{header}.{part('x')}.{signature}",
        f"{part({'alg': {}, 'kid': 'a1'})}.{payload}.{signature}",
        OTHER_KEY.token("ann@example.com", PURPOSE),
        "\udcff" * 10,
        "é.é.é",
        "a" * 100_000,
        f"{'[' * 4000}.{payload}.{signature}",
    ]


@pytest.mark.parametrize("token", forged())
def test_what_google_has_not_signed_is_refused_and_never_shown(identities: GoogleIdentities, token: str) -> None:
    with pytest.raises(InputError) as refused:
        identities.mail_of(token, PURPOSE)
    shown = str(refused.value)
    assert all(len(piece) < 10 or piece not in shown for piece in token.split("."))


def test_a_key_that_is_new_is_looked_up_but_not_at_each_token(page: CertificatesPage) -> None:
    clock = FakeClock()
    identities = GoogleIdentities(DEPLOYMENT, page.url, clock.now)
    new = OTHER_KEY.token("ann@example.com", PURPOSE)
    for seconds in (0, 30, 29):
        clock.time += seconds
        with pytest.raises(InputError, match="Certificate for key id b2 not found"):
            identities.mail_of(new, PURPOSE)
    assert len(page.calls) == 1
    page.show(KEY, OTHER_KEY)
    clock.time += 1
    assert identities.mail_of(new, PURPOSE) == "ann@example.com"
    assert len(page.calls) == 2


@pytest.mark.parametrize(
    ("cache", "seconds"),
    [("public, max-age=19000", 19_000), ("max-age=999999999", 6 * 3600), ("no-store", 60), ("max-age=1", 60)],
)
def test_a_key_that_google_shows_no_longer_counts_until_its_certificate_is_old(
    page: CertificatesPage, cache: str, seconds: int
) -> None:
    clock, page.cache = FakeClock(), cache
    identities = GoogleIdentities(DEPLOYMENT, page.url, clock.now)
    token = KEY.token("ann@example.com", PURPOSE)
    identities.mail_of(token, PURPOSE)
    page.show(OTHER_KEY)
    clock.time += 0.9 * seconds - 1
    assert identities.mail_of(token, PURPOSE) == "ann@example.com"
    clock.time += 1
    with pytest.raises(InputError, match="Certificate for key id a1 not found"):
        identities.mail_of(token, PURPOSE)


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b"{}"), (302, b"{}"), (200, b"{"), (200, b"[]"), (200, b'{"a1": 5}'), (200, b'{"a": "' + b"x" * 70_000)],
)
def test_certificates_that_cannot_be_had_are_tried_again(page: CertificatesPage, status: int, body: bytes) -> None:
    clock = FakeClock()
    identities = GoogleIdentities(DEPLOYMENT, page.url, clock.now)
    good, token = page.body, KEY.token("ann@example.com", PURPOSE)
    page.status, page.body = status, body
    with pytest.raises(Transient, match="Google's certificates"):
        identities.mail_of(token, PURPOSE)
    page.status, page.body = 200, good
    assert identities.mail_of(token, PURPOSE) == "ann@example.com"


def test_a_page_of_certificates_that_fails_is_left_alone_for_longer_and_longer(page: CertificatesPage) -> None:
    clock = FakeClock()
    identities = GoogleIdentities(DEPLOYMENT, page.url, clock.now)
    token, page.status = KEY.token("ann@example.com", PURPOSE), 503
    for _ in range(310):  # one a second
        with pytest.raises(Transient, match="status 503"):
            identities.mail_of(token, PURPOSE)
        clock.time += 1.0
    assert len(page.calls) == 12, "after 0, 1, 2, 4, 8, 16, 32, 64, 124, 184, 244 and 304 seconds"


def test_certificates_that_count_are_used_while_new_ones_cannot_be_had(page: CertificatesPage) -> None:
    clock, page.cache = FakeClock(), "max-age=1000"
    identities = GoogleIdentities(DEPLOYMENT, page.url, clock.now)
    token = KEY.token("ann@example.com", PURPOSE)
    identities.mail_of(token, PURPOSE)
    page.status = 503
    clock.time += 950.0
    assert identities.mail_of(token, PURPOSE) == "ann@example.com"
    assert len(page.calls) == 2
    clock.time += 50.0
    with pytest.raises(Transient):
        identities.mail_of(token, PURPOSE)


def test_one_slow_fetch_holds_no_token_whose_key_counts(page: CertificatesPage) -> None:
    clock, page.cache = FakeClock(), "max-age=1000"
    identities = GoogleIdentities(DEPLOYMENT, page.url, clock.now)
    token = KEY.token("ann@example.com", PURPOSE)
    identities.mail_of(token, PURPOSE)
    clock.time += 950.0
    page.gate.clear()
    with ThreadPoolExecutor(1) as beside:
        slow = beside.submit(identities.mail_of, token, PURPOSE)
        while len(page.calls) < 2:
            time.sleep(0.01)
        assert identities.mail_of(token, PURPOSE) == "ann@example.com"
        assert not slow.done()
        page.gate.set()
        assert slow.result() == "ann@example.com"
    assert len(page.calls) == 2


def test_google_that_cannot_be_reached_is_tried_again() -> None:
    with certificates_page(KEY) as gone:
        url = gone.url
    with pytest.raises(Transient, match="ConnectionError"):
        GoogleIdentities(DEPLOYMENT, url).mail_of(KEY.token("ann@example.com", PURPOSE), PURPOSE)


class TestProxiedPeople:
    """Assertions of Identity-Aware Proxy."""

    KEY, OTHER = ProxyKey("p1"), ProxyKey("p1")

    @pytest.fixture
    def keys(self) -> Iterator[CertificatesPage]:
        with certificates_page(self.KEY) as shown:
            yield shown

    @pytest.fixture
    def people(self, keys: CertificatesPage) -> ProxiedPeople:
        return ProxiedPeople(SERVICE, keys.url)

    def test_an_assertion_proves_an_address_and_keys_are_kept(
        self, people: ProxiedPeople, keys: CertificatesPage
    ) -> None:
        for _ in range(3):
            assert people.mail_behind(self.KEY.assertion("Ann@Example.com")) == "ann@example.com"
        assert len(keys.calls) == 1

    @pytest.mark.parametrize(
        ("claims", "text"),
        [
            ({"iss": "https://accounts.google.com"}, "and not by https://cloud.google.com/iap"),
            ({"aud": SERVICE.replace("dashboard", "start-build")}, f"and not for {SERVICE}"),
            ({"aud": [SERVICE]}, f"and not for {SERVICE}"),
            ({"exp": 1700000000, "iat": 1699999000}, "does not count: Token expired"),
            ({"iat": time.time() + 3600}, "does not count: Token used too early"),
            ({"exp": None}, "is no JSON Web Token"),
            ({"sub": None}, "is of 'None', which is no Google account"),
            ({"sub": "securetoken.google.com/my-project/tenant:104729"}, "which is no Google account"),
            ({"sub": "accounts.google.com:"}, "which is no Google account"),
            ({"email": None}, "names no mail address"),
            ({"email": ["ann@example.com"]}, "names no mail address"),
        ],
    )
    def test_an_assertion_that_does_not_count_says_why(
        self, people: ProxiedPeople, claims: dict[str, object], text: str
    ) -> None:
        with pytest.raises(InputError, match=text):
            people.mail_behind(self.KEY.assertion("ann@example.com", **claims))  # type: ignore[arg-type]

    def test_other_keys_and_algorithms_do_not_count(self, people: ProxiedPeople, keys: CertificatesPage) -> None:
        with pytest.raises(InputError, match="does not count"):
            people.mail_behind(self.OTHER.assertion("ann@example.com"))
        by_google = KEY.token("ann@example.com", "x", iss="https://cloud.google.com/iap", aud=SERVICE)
        with pytest.raises(InputError, match="is not signed by ES256"):
            people.mail_behind(by_google)
        head, body, _ = self.KEY.assertion("ann@example.com").split(".")
        none = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": "p1"}).encode()).decode().rstrip("=")
        public = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": "p1"}).encode()).decode().rstrip("=")
        for token in (f"{none}.{body}.", f"{public}.{body}.AAAA", f"{head}.{body}.", f"{head}.{body}", "", "." * 9000):
            with pytest.raises(InputError, match=r"is not signed by ES256|does not count|is no JSON Web Token"):
                people.mail_behind(token)
        assert len(keys.calls) <= 1

    def test_keys_that_cannot_be_had_are_no_verdict(self, people: ProxiedPeople, keys: CertificatesPage) -> None:
        keys.status = 503
        with pytest.raises(Transient):
            people.mail_behind(self.KEY.assertion("ann@example.com"))
