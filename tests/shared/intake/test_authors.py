"""Authors: whose an upload is, by a token or a folder of one person, and what makes that unknown or is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from shared.build.build import Build, Outcome
from shared.build.image.people import PersonRule
from shared.errors import Transient
from shared.gcp.identities import GoogleIdentities
from shared.submission import (
    AUTHOR_METADATA,
    CONTEXT_METADATA,
    PARAMETERS_METADATA,
    submission_purpose,
)
from shared.topology import CONTEXTS
from tests.world.intake import BUCKET, PLAIN, SCRIPT, SPEC, Desk, Place
from tests.world.packed_context import packed_context
from tests.world.tokens import DEPLOYMENT, CertificatesPage, SigningKey, certificates_page

ANN, ROBOT, EVE = "ann@example.com", "ann@p.iam.gserviceaccount.com", "eve@example.com"
KEY = SigningKey("a1")
TRIGGERS = "triggers: {source_changed: true}\n"


@pytest.fixture(scope="module")
def page() -> Iterator[CertificatesPage]:
    with certificates_page(KEY) as shown:
        yield shown


@pytest.fixture
def desk(page: CertificatesPage) -> Desk:
    made = Desk()
    people = {"ann": PersonRule((ANN, ROBOT), folder=True)}
    page.status = 200
    identities = GoogleIdentities(DEPLOYMENT, page.url, made.world.clock.now)
    made.world.backend = replace(made.world.backend, people=lambda: people, identities=identities)
    made.intake = made.intake_with(Place().limits)
    return made


def token(text: str, name: str = "specs/hello.yaml", mail: str = ROBOT, **metadata: str) -> str:
    brought = {key.replace("_", "-"): value for key, value in metadata.items()}
    return KEY.token(mail, submission_purpose(f"gs://{BUCKET}/{name}", text, brought))


def upload(desk: Desk, text: str, shown: str, name: str = "specs/hello.yaml", **metadata: str) -> Build:
    return desk.upload(text, name, **metadata, **{AUTHOR_METADATA: shown})


def author(build: Build) -> str:
    assert build.plan is not None, build.reason
    return build.plan.author


def test_a_token_names_the_author_of_the_build_and_of_its_image(desk: Desk) -> None:
    build = upload(desk, PLAIN, token(PLAIN))
    assert author(build) == ROBOT
    image = desk.world.store.image("my-project", build.plan.image.name if build.plan else "")
    assert image is not None
    assert image.author == ROBOT


def test_without_a_token_the_author_is_not_known(desk: Desk) -> None:
    assert author(desk.upload(PLAIN)) == ""


def test_parameters_and_packed_contexts_are_bound_by_the_token(desk: Desk) -> None:
    metadata = {PARAMETERS_METADATA: '{"greeting": "ahoy"}', CONTEXT_METADATA: packed(desk)}
    shown = token(SPEC, **metadata)
    other = upload(desk, SPEC, shown, **{**metadata, PARAMETERS_METADATA: '{"greeting": "rude"}'})
    assert (other.outcome, "who has written this is not proved" in other.reason) == (Outcome.FAILED, True)
    assert author(upload(desk, SPEC, shown, **metadata)) == ROBOT


def packed(desk: Desk) -> str:
    data, digest = packed_context({"preload.sh": SCRIPT})
    uri = f"gs://{BUCKET}/uploads/{digest}.tar"
    desk.objects.put(uri, data)
    return uri


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: token(PLAIN + "\n"), "the token is for"),
        (lambda: token(PLAIN, "specs/other.yaml"), "the token is for"),
        (lambda: KEY.token(ROBOT, "approve/x"), "the token is for"),
        (lambda: KEY.token(ROBOT, "x", exp=1, iat=0), "Token expired"),
        (lambda: SigningKey("a1").token(ROBOT, "x"), "does not count"),
        (lambda: "not a token", "is no JSON Web Token|does not count"),
        (lambda: token(PLAIN, mail=EVE), "eve@example.com is the address of no person of this deployment"),
    ],
)
def test_a_token_that_does_not_count_is_refused_in_words_and_nothing_is_made(
    desk: Desk, wrong: object, told: str
) -> None:
    assert callable(wrong)
    build = upload(desk, PLAIN, wrong())
    assert (build.outcome, build.plan) == (Outcome.FAILED, None)
    assert re.search(told, build.reason), build.reason
    assert not [uri for uri in desk.objects.live if uri.startswith(f"gs://{BUCKET}/{CONTEXTS}")]


def test_a_token_counts_for_one_upload(desk: Desk) -> None:
    shown = token(PLAIN)
    first = upload(desk, PLAIN, shown)
    again = upload(desk, PLAIN, shown)
    assert (author(first), again.outcome) == (ROBOT, Outcome.FAILED)
    assert "the author's token was used for another upload" in again.reason


def test_the_same_upload_delivered_later_needs_the_token_no_more(desk: Desk, page: CertificatesPage) -> None:
    """The process has died after it has written down what the token proves."""
    shown = token(PLAIN)
    generation = desk.put("specs/hello.yaml", PLAIN, {AUTHOR_METADATA: shown})
    page.status = 503
    with pytest.raises(Transient, match="certificates"):
        desk.intake.uploaded("specs/hello.yaml", generation)
    page.status = 200
    desk.world.clock.time += 60  # so long is Google not asked again
    desk.world.compute.faults["image"] = Transient("not now")
    with pytest.raises(Transient, match="not now"):
        desk.intake.uploaded("specs/hello.yaml", generation)
    assert desk.made() == 0
    desk.world.backend = replace(desk.world.backend, identities=None)
    desk.intake = desk.intake_with(Place().limits)
    [build] = desk.intake.uploaded("specs/hello.yaml", generation)
    assert author(build) == ROBOT


def test_a_context_that_others_can_change_is_refused_with_a_token(desk: Desk) -> None:
    desk.put("specs/preload.sh", SCRIPT)
    build = upload(desk, SPEC, token(SPEC))
    assert f"context: gs://{BUCKET}/specs can be changed by others" in build.reason


class TestFolders:
    FOLDER = "specs/people/ann"

    def test_what_lies_there_is_that_persons(self, desk: Desk) -> None:
        desk.put(f"{self.FOLDER}/preload.sh", SCRIPT)
        assert author(desk.upload(SPEC, f"{self.FOLDER}/hello.yaml")) == ANN
        assert author(desk.publish(spec=f"gs://{BUCKET}/{self.FOLDER}/hello.yaml")) == ANN

    def test_a_folder_of_nobody_is_nobodys(self, desk: Desk) -> None:
        assert author(desk.upload(PLAIN, "specs/people/eve/hello.yaml")) == ""

    def test_with_another_ones_parameters_or_files_it_is_nobodys(self, desk: Desk) -> None:
        desk.put("specs/people/preload.sh", SCRIPT)
        text = SPEC.replace("context: .", "context: ..")
        assert author(desk.upload(text, f"{self.FOLDER}/hello.yaml")) == ""
        desk.put(f"{self.FOLDER}/preload.sh", SCRIPT)
        desk.upload(SPEC, f"{self.FOLDER}/hello.yaml")
        spec = f"gs://{BUCKET}/{self.FOLDER}/hello.yaml"
        assert author(desk.publish("19", spec=spec, parameters={"greeting": "rude"})) == ""

    def test_what_its_triggers_build_is_that_persons(self, desk: Desk) -> None:
        build = desk.upload(PLAIN + TRIGGERS, f"{self.FOLDER}/hello.yaml")
        [trigger] = desk.world.store.triggers()
        assert (author(build), getattr(trigger, "author", None)) == (ANN, ANN)
