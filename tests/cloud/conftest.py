"""One Google Cloud on this machine for all tests of this folder, and a person with Google's own programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from emulator.cloud.cloud import PROJECT, Cloud
from shared.build.image.retire_rules import RetireRule
from shared.build.limits import Limits
from shared.clock import SystemClock
from shared.images.catalogue import Catalogue
from tests.cloud.maker_image import MAKER
from tests.cloud.person import Person
from tests.shared.tracing.collector import TestCollector, collector
from tests.shared.webhooks.receiver import Receiver, receiver

SIGNING_KEY = "projects/key-project/locations/us-central1/keyRings/images/cryptoKeys/statements/cryptoKeyVersions/1"


@pytest.fixture(scope="session")
def told() -> Iterator[Receiver]:
    """The one who is told of all finished builds."""
    with receiver() as kept:
        yield kept


@pytest.fixture(scope="session")
def traced() -> Iterator[TestCollector]:
    """The collector that gets traces of all finished builds."""
    with collector() as made:
        yield made


@pytest.fixture(scope="session")
def cloud(
    tmp_path_factory: pytest.TempPathFactory, debian_disk: Path, told: Receiver, traced: TestCollector
) -> Iterator[Cloud]:
    """Google Cloud, with Debian 12 as its only image."""
    hooks = {"ci": {"url": told.url, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}}
    home = tmp_path_factory.mktemp("cloud")
    Catalogue(home, SystemClock()).add(debian_disk, "debian-12-base", transfer="link", family="debian-12")
    limits = Limits(adopted_families=("web",), max_keep=3600.0, retry_for=3600.0, retry_disk_for=3600.0)
    maker = f"projects/local/global/images/{MAKER}"
    limits = replace(limits, retire_images={"attic": RetireRule()})
    approvers = [f"goldsmith-{name}@{PROJECT}.iam.gserviceaccount.com" for name in ("ann", "ben")]
    channels = json.dumps({"dev": {}, "prod": {}, "vault": {"approvers": approvers}})
    people = json.dumps({"ann": {"addresses": approvers[:1], "operator": True}})
    deployed = Cloud(
        home,
        limits=limits,
        maker_image=maker,
        webhooks=json.dumps(hooks),
        channels=channels,
        people=people,
        signing_key=SIGNING_KEY,
        otlp_endpoint=traced.endpoint,
    )
    with deployed as running:
        yield running


@pytest.fixture
def person(cloud: Cloud, tmp_path: Path) -> Iterator[Person]:
    """A user with an empty home; after the test, none of the user's VMs and disks is left."""
    someone = Person(tmp_path, cloud.environment(tmp_path / "home"), cloud.project, cloud.bucket, cloud.compute.url)
    yield someone
    assert someone.resources("instances") == []
    assert someone.resources("disks") == []
