"""Approvals as deprecate_images gets them: what is delivered again, and what is in no log."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest

from shared.build.image.approval import promotion_id, purpose_of
from shared.build.image.channels import Channel
from shared.gcp.identities import GoogleIdentities
from shared.ports import Message
from shared.topology import IMAGES_TOPIC
from tests.functions.deployed import PROJECT, Deployment
from tests.world.published import add_build, build_of, image_of
from tests.world.tokens import DEPLOYMENT, CertificatesPage, SigningKey, certificates_page
from tests.world.world import World

ANN, BEN = "ann@example.com", "ben@example.com"
KEY = SigningKey("a1")


@pytest.fixture
def page() -> Iterator[CertificatesPage]:
    with certificates_page(KEY) as shown:
        yield shown


@pytest.fixture
def deployment(page: CertificatesPage) -> Deployment:
    world, build = World(), build_of("one")
    identities = GoogleIdentities(PROJECT, page.url)
    world.backend = replace(world.backend, channels=lambda: {"prod": Channel((ANN, BEN))}, identities=identities)
    add_build(world.store, build)
    world.compute.all_images["one"] = image_of(build)
    return Deployment(world)


def push(deployment: Deployment, message_id: str, kind: str, **asked: str) -> int:
    message = Message(IMAGES_TOPIC, json.dumps({kind: {"image": "local/one", **asked}}).encode(), {})
    return deployment.push("deprecate_images", message, message_id).status_code


def test_two_people_say_yes_and_no_token_is_in_a_log(
    deployment: Deployment, page: CertificatesPage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert DEPLOYMENT == PROJECT
    store, images = deployment.world.store, deployment.world.compute.all_images
    assert [push(deployment, "17", "promote", to="prod") for _ in range(2)] == [200, 200]
    asked = store.promotion(promotion_id("local", "one", "prod"))
    assert asked is not None
    assert (asked.request, asked.number, "one-prod" in images) == ("17", 1, False)
    tokens = [KEY.token(mail, purpose_of(asked, "approve")) for mail in (ANN, BEN)]
    wrong = KEY.token(ANN, purpose_of(asked, "refuse"))
    page.status = 503
    said = {"channel": "prod", "reason": "good"}
    assert push(deployment, "18", "approve", **said, token=tokens[0]) == 500, "it is delivered again"
    page.status = 200
    for number, token in enumerate([tokens[0], wrong, tokens[0], tokens[1], tokens[1]]):
        assert push(deployment, str(19 + number), "approve", **said, token=token) == 200
    assert images["one-prod"].family == "hello-prod"
    log = "\n".join(record.getMessage() + str(record.exc_info) for record in caplog.records)
    assert "approved by ann@example.com; 2 approvers are needed" in log
    assert "a request to approve an image is refused: the token is for" in log
    assert "image one of project local is in the channel prod, as one-prod" in log
    for token in (*tokens, wrong):
        assert not [part for part in token.split(".")[1:] if part in log or part in str(store.promotion_texts)]
