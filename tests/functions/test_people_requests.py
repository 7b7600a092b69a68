"""What people ask for in the dashboard, from the assertion of Identity-Aware Proxy to the function that does it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from werkzeug.test import Client, TestResponse

from shared.build.build import Outcome, State
from shared.build.image.approval import promotion_id
from shared.build.image.channels import Channel
from shared.build.image.people import PersonRule
from shared.gcp.identities import IAP_HEADER, GoogleIdentities
from shared.ports import Message
from shared.topology import ABOUT, PEOPLE_TOPIC, SUBSCRIPTIONS
from tests.functions.deployed import PROJECT, SETTINGS, Deployment
from tests.world import values
from tests.world.fakes import MemoryBus
from tests.world.published import add_build, build_of, image_of
from tests.world.tokens import SERVICE, ProxyKey, certificates_page
from tests.world.world import World

ANN, BEN, EVE = "ann@example.com", "ben@example.com", "eve@example.com"
KEY = ProxyKey("p1")
SITE = "https://dashboard.example.com"
BROWSER = {"Accept": "text/html", "X-Forwarded-Proto": "https", "Host": "dashboard.example.com"}


class DeliveringBus(MemoryBus):
    """Delivers what people ask for at once, and twice, as the subscriptions have it."""

    deployment: Deployment

    def publish(self, message: Message) -> None:
        super().publish(message)
        if message.topic != PEOPLE_TOPIC:
            return
        wanted = f'attributes.{ABOUT} = "{message.attributes[ABOUT]}"'
        [found] = [each for each in SUBSCRIPTIONS if each.topic == PEOPLE_TOPIC and each.filter == wanted]
        for _ in range(2):
            assert self.deployment.push(found.function, message).status_code == 200


@pytest.fixture(scope="module")
def keys() -> Iterator[str]:
    with certificates_page(KEY) as page:
        yield page.url


@pytest.fixture
def deployment(keys: str) -> Deployment:
    world, build = World(), build_of("one")
    channels = {"prod": Channel((BEN, EVE)), "dev": Channel()}
    people = {"ann": PersonRule((ANN,), operator=True), "ben": PersonRule((BEN,))}
    bus = DeliveringBus()
    world.backend = replace(
        world.backend,
        bus=bus,
        channels=lambda: channels,
        people=lambda: people,
        identities=GoogleIdentities(PROJECT, keys),
    )
    for age, each in enumerate((build, build_of("two"))):
        add_build(world.store, each)
        image = image_of(each, -1000.0 * age)
        world.compute.all_images[image.name] = image
    world.store.create(values.build(), values.requested())
    made = Deployment(world)
    made.backend = replace(made.backend, settings=replace(SETTINGS, iap_audience=SERVICE, iap_keys_url=keys))
    bus.deployment = made
    return made


class Person:
    """A browser behind the proxy, which keeps its cookies."""

    def __init__(self, client: Client, mail: str) -> None:
        self.client = client
        self.headers = {**BROWSER, IAP_HEADER: KEY.assertion(mail)} if mail else BROWSER

    def look(self, path: str) -> TestResponse:
        return self.client.get(path, headers=self.headers, base_url=SITE)

    def form(self, path: str) -> dict[str, str]:
        page = self.look(path)
        assert page.status_code == 200, page.get_data(as_text=True)
        found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.get_data(as_text=True))
        return {**dict(found), "reason": "it is time"}

    def send(self, form: dict[str, str], **headers: str) -> TestResponse:
        return self.client.post("/ask", data=form, headers={**self.headers, "Origin": SITE, **headers}, base_url=SITE)

    def ask(self, path: str) -> str:
        """Look, ask, and return what the page says then."""
        answer = self.send(self.form(path))
        assert answer.status_code == 303, answer.get_data(as_text=True)
        return self.look(answer.headers["Location"]).get_data(as_text=True)


@pytest.fixture
def client(deployment: Deployment) -> Iterator[Client]:
    with deployment.client("dashboard") as client:
        yield client


def test_a_promotion_is_asked_for_approved_by_two_and_carried_out(deployment: Deployment, client: Client) -> None:
    world = deployment.world
    document = world.store.image("local", "one")
    assert document is not None
    assert world.store.save_image(replace(document, approvals={"prod": 2}), document)
    said = Person(client, ANN).ask("/ask/promote?target=local/one&channel=prod")
    assert "waits for 2 approvals" in said
    page = Person(client, BEN).look("/ask/approve?target=local/one&channel=prod").get_data(as_text=True)
    for fact in ("Approvals that the spec asks for", "Approvals missing"):
        assert re.search(rf"{fact}</\w+>\s*<\w+>2<", page), page
    assert "Approve…" in Person(client, BEN).look("/requests").get_data(as_text=True)
    for mail in (BEN, EVE):
        said = Person(client, mail).ask("/ask/approve?target=local/one&channel=prod")
    assert "is already in the channel prod" in said or "is in the channel prod, as one-prod" in said
    assert world.compute.all_images["one-prod"].family == "hello-prod"
    asked = world.store.promotion(promotion_id("local", "one", "prod"))
    assert asked is not None
    assert [(each.by, each.reason) for each in asked.approvals] == [(BEN, "it is time"), (EVE, "it is time")]


def test_a_build_is_cancelled_and_its_page_and_its_event_say_by_whom(deployment: Deployment, client: Client) -> None:
    ann = Person(client, ANN)
    assert f"build {values.BUILD_ID} is being ended" in ann.ask(f"/ask/cancel?target={values.BUILD_ID}")
    build = deployment.world.store.load(values.BUILD_ID).build
    assert (build.outcome, build.state) == (Outcome.CANCELLED, State.CLEANING)
    assert f"{ANN}: it is time" in build.reason
    page = ann.look(f"/builds/{values.BUILD_ID}").get_data(as_text=True)
    assert "What people have asked for" in page
    assert ANN in page


def test_a_retry_that_cannot_be_is_told_in_words(deployment: Deployment, client: Client) -> None:
    store = deployment.world.store
    stored = store.load(values.BUILD_ID)
    store.save(replace(stored.build, state=State.FINISHED, outcome=Outcome.FAILED), stored.version)
    refused = Person(client, ANN).look(f"/ask/retry?target={values.BUILD_ID}")
    assert (refused.status_code, "keeps no image to go on with" in refused.get_data(as_text=True)) == (400, True)


def test_a_request_that_no_form_can_have_made_is_none(client: Client) -> None:
    for path, status in ((f"/requests/{'0' * 32}", 200), ("/requests/0", 404), ("/requests/done by ann", 404)):
        assert client.get(path, headers=BROWSER, base_url=SITE).status_code == status


def test_a_person_says_how_far_a_revocation_goes(deployment: Deployment, client: Client) -> None:
    ann, world = Person(client, ANN), deployment.world
    ann.ask("/ask/revoke?target=local/one")
    path = "/ask/revoke?target=local/two"
    assert "has no other good image" in ann.ask(path)
    assert world.compute.all_images["two"].deprecated != "OBSOLETE"
    sent = ann.send({**ann.form(path), "alone": "yes", "cascade": "yes"})
    page = ann.look(sent.headers["Location"]).get_data(as_text=True)
    assert "its family may be left without a good image; what was built from it is built again" in page
    assert "its family hello leads to no image" in page
    assert world.compute.all_images["two"].deprecated == "OBSOLETE"
    assert ann.send({**ann.form("/ask/promote?target=local/one&channel=dev"), "alone": "yes"}).status_code == 303


@pytest.mark.parametrize("mail", [BEN, "", "nobody@example.com"])
def test_who_may_not_gets_no_button_and_a_form_of_another_does_not_help(
    deployment: Deployment, client: Client, mail: str
) -> None:
    path = "/ask/revoke?target=local/one"
    other = Person(client, mail)
    page = other.look(path).get_data(as_text=True)
    assert "You cannot do this" in page
    assert "<form" not in page
    assert other.send(Person(client, ANN).form(path)).status_code == 403
    assert deployment.world.compute.all_images["one"].deprecated is None


def test_an_address_that_nothing_proves_is_not_believed(client: Client) -> None:
    path = "/ask/revoke?target=local/one"
    for headers in (
        {"X-Goog-Authenticated-User-Email": f"accounts.google.com:{ANN}"},
        {"Authorization": "Bearer e30.eyJlbWFpbCI6ImFubkBleGFtcGxlLmNvbSJ9.SIGNATURE_REMOVED_BY_GOOGLE"},
    ):
        page = client.get(path, headers={**BROWSER, **headers}, base_url=SITE).get_data(as_text=True)
        assert "nothing proves who you are" in page
    forged = {**BROWSER, IAP_HEADER: ProxyKey("p1").assertion(ANN)}
    assert client.get(path, headers=forged, base_url=SITE).status_code == 400


def test_forms_of_other_sites_and_changed_forms_do_nothing(deployment: Deployment, client: Client) -> None:
    ann = Person(client, ANN)
    form = ann.form("/ask/revoke?target=local/one")
    assert ann.look("/ask/revoke?target=local/one").headers["Referrer-Policy"] == "same-origin"
    for headers in (
        {"Origin": "https://evil.example.com"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://["},
        {"Origin": f"{SITE}/x"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert ann.send(form, **headers).status_code == 403
    for changed in ({"kind": "promote"}, {"target": "local/two"}, {"seen": "x"}, {"id": "0" * 32}, {"seal": ""}):
        assert ann.send({**form, **changed}).status_code == 403
    without = Person(client.__class__(client.application, client.response_wrapper), ANN)
    assert without.send(form).status_code == 403, "the form of another browser"
    assert client.get("/ask", headers=ann.headers, base_url=SITE).status_code in (404, 405)
    assert ann.send({**form, "reason": " "}).status_code == 400
    assert deployment.world.store.person_requests("local/one") == []
    cookie = ann.look("/ask/revoke?target=local/one").headers["Set-Cookie"]
    assert cookie.startswith("__Host-goldsmith-form=")
    for word in ("Secure", "HttpOnly", "SameSite=Strict", "Path=/"):
        assert word in cookie


def test_a_form_that_is_sent_twice_asks_once(deployment: Deployment, client: Client) -> None:
    ann = Person(client, ANN)
    form = ann.form("/ask/revoke?target=local/one")
    answers = [ann.send(form) for _ in range(2)]
    assert answers[0].headers["Location"] == answers[1].headers["Location"]
    [asked] = deployment.world.store.person_requests("local/one")
    assert getattr(asked, "state", "") == "done"


def test_without_the_proxy_the_dashboard_only_shows(deployment: Deployment) -> None:
    deployment.backend = replace(deployment.backend, settings=SETTINGS)
    with deployment.client("dashboard") as client:
        ann = Person(client, ANN)
        page = ann.look("/ask/revoke?target=local/one").get_data(as_text=True)
        assert "this dashboard only shows" in page
        assert ann.send({"kind": "revoke", "target": "local/one", "reason": "x"}).status_code == 403


def test_a_message_that_a_function_cannot_read_is_dropped(deployment: Deployment) -> None:
    for function in ("advance_build", "start_build", "deprecate_images"):
        assert deployment.push(function, Message(PEOPLE_TOPIC, b"{}", {})).status_code == 200
