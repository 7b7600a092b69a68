"""retire_images: Cloud Scheduler's POST, and the dashboard's report of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from shared.build.image.retire_rules import RetireRule
from shared.build.limits import Limits
from shared.errors import Permanent
from shared.image_users import ImageUse
from shared.topology import RETIREMENT_REPORT
from tests.functions.deployed import Deployment
from tests.world.published import FAMILY, add_build, build_of, image_of

NAMES = ("one", "two", "three")
PROJECTS = ["my-project", "web-project"]


class Users:
    """What uses images of the deployment's project."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.unreadable = False

    def uses(self, project: str, images_of: str) -> Iterator[ImageUse]:
        self.asked.append((project, images_of))
        if project == "web-project":
            if self.unreadable:
                raise Permanent("403: compute.disks.list")
            yield ImageUse("two", "sha256-two", "disk d of project web-project in europe-west1-b")


@pytest.fixture
def users() -> Users:
    return Users()


@pytest.fixture
def deployment(users: Users) -> Deployment:
    """Three images of a family of which one may stay."""
    made = Deployment()
    for age, name in enumerate(reversed(NAMES)):
        build = build_of(name)
        assert build.plan is not None
        assert build.image is not None
        plan = replace(build.plan, image=replace(build.plan.image, project="my-project"))
        own = replace(build, plan=plan, image=replace(build.image, project="my-project"))
        add_build(made.world.store, own)
        made.world.compute.all_images[name] = replace(image_of(own, 86400.0 * age), project="my-project")
    limits = Limits(retire_images={FAMILY: RetireRule()}, consumers=("web-project",))
    settings = replace(made.backend.settings, project="my-project", limits=limits)
    made.backend = replace(made.backend, settings=settings, image_users=users)
    return made


def run(deployment: Deployment) -> dict[str, float]:
    with deployment.client("retire_images") as client:
        response = client.post("/")
    assert response.status_code == 200, response.get_data()
    numbers: dict[str, float] = response.get_json()
    return numbers


def report(deployment: Deployment) -> dict[str, str]:
    with deployment.client("dashboard") as client:
        told = client.get("/retirement").get_json()["told"]
    return {each["name"]: f"{each['action']}: {each['why']}" for each in told}


def test_images_go_in_two_phases_and_the_dashboard_tells_why_others_stay(deployment: Deployment, users: Users) -> None:
    numbers = run(deployment)
    assert (numbers["images"], numbers["keep"], numbers["obsolete"], numbers["fault"]) == (3, 2, 1, 0)
    assert users.asked == [("my-project", "my-project"), ("web-project", "my-project")]
    assert report(deployment)["three"] == "keep: its family leads to it"
    assert report(deployment)["two"] == "keep: in use by disk d of project web-project in europe-west1-b"
    deployment.world.clock.time += 86400
    assert run(deployment)["delete"] == 1
    assert set(deployment.world.compute.all_images) == {"two", "three"}


def test_a_consumer_that_cannot_be_read_keeps_everything(deployment: Deployment, users: Users) -> None:
    users.unreadable = True
    assert run(deployment)["keep"] == 3
    assert report(deployment)["one"].startswith("keep: project web-project cannot be read, and may use it: 403")


def test_without_rules_nothing_is_looked_at(deployment: Deployment, users: Users) -> None:
    settings = replace(deployment.backend.settings, limits=Limits())
    deployment.backend = replace(deployment.backend, settings=settings)
    assert run(deployment) == {"images": 0}
    assert users.asked == []
    with deployment.client("dashboard") as client:
        response = client.get("/retirement")
    assert (response.status_code, "retire_images of the deployment is empty" in response.get_json()["error"]) == (
        404,
        True,
    )


def test_only_a_post_runs_it(deployment: Deployment, users: Users) -> None:
    with deployment.client("retire_images") as client:
        response = client.get("/")
    assert (response.status_code, response.headers["Allow"], users.asked) == (405, "POST", [])


def test_the_report_is_an_object_of_the_bucket(deployment: Deployment) -> None:
    run(deployment)
    uri = f"gs://{deployment.backend.settings.bucket}/{RETIREMENT_REPORT}"
    whole = json.loads(deployment.world.bucket.objects[uri])
    assert whole["rules"] == {FAMILY: {"older_than": 0.0, "keep": 1}}
    assert whole["consumers"] == PROJECTS
