"""Operators publish to image-requests, and images of the project go through channels; no VM is needed for that."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import requests

from emulator.cloud.cloud import IAP_AUDIENCE, Cloud
from shared.build.build import ImageRecord, ImageUsage, Outcome
from shared.build.plan import ImagePlan, SourceImage, SpecPlace
from shared.clock import SystemClock
from shared.gcp.firestore import GoogleStore
from shared.gcp.identities import IAP_HEADER
from shared.images.catalogue import Catalogue
from tests.cloud.person import Person
from tests.docs.reader import Reader
from tests.world.published import add_build, build_of

ZONE = "us-central1-a"
HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')
APPROVER = "ann-approves@my-project.iam.gserviceaccount.com"  # as the page has it
LICENSE = "projects/debian-cloud/global/licenses/debian-12-bookworm"


def test_an_operator_promotes_images_and_takes_one_back(cloud: Cloud, person: Person, tmp_path: Path) -> None:
    catalogue = Catalogue(cloud.home, SystemClock())  # what Compute Engine shows
    for name in ("shop-1", "shop-2"):
        publish_image(catalogue, person, name, tmp_path / "disk.raw")
        request(person, "promote", image=name, to="prod")
        wait_for(catalogue, "shop-prod", f"{name}-prod")
    copy, original = (person.gcloud("compute", "images", "describe", name) for name in ("shop-2-prod", "shop-2"))
    assert copy["sourceImageId"] == original["id"]
    for key in ("labels", "licenses", "diskSizeGb", "architecture", "storageLocations"):
        assert copy[key] == original[key], key
    assert leads_to(catalogue, "shop") == "shop-2"

    original_source = SourceImage(person.project, "shop-2", original["id"], family="shop")
    place = SpecPlace(f"gs://{person.bucket}/specs/cart.yaml", source={"project": person.project, "family": "shop"})
    publish_image(catalogue, person, "cart-1", tmp_path / "disk.raw", "cart", source=original_source, read_from=place)
    zone = f"--zone={ZONE}"
    person.gcloud("compute", "disks", "create", "of-shop", "--image=shop-2-prod", zone)

    request(person, "revoke", image="shop-2", reason="its greeting is rude", cascade=True)
    wait_for(catalogue, "shop", "shop-1")
    assert person.gcloud("compute", "images", "describe-from-family", "shop-prod")["name"] == "shop-1-prod"
    assert person.gcloud("compute", "images", "describe", "shop-2-prod")["deprecated"]["state"] == "OBSOLETE"
    wanted = ImageUsage((f"disk of-shop of project {person.project} in {ZONE}",))
    wait_until(lambda: usage_of(person, "shop-2") == wanted, "the disk is not recorded")
    person.gcloud("compute", "disks", "delete", "of-shop", zone)
    cloud.scheduler.step("expire-builds")
    wait_until(lambda: any(build.name == "cart" for build in person.builds()), "nothing is built again")
    [again] = [build for build in person.builds() if build.name == "cart"]
    assert (again.outcome, "upload the spec first" in again.reason) == (Outcome.FAILED, True), "it was never there"


def test_a_promotion_waits_for_two_people_who_prove_who_they_are(cloud: Cloud, person: Person, tmp_path: Path) -> None:
    """By gcloud: one approver has a key, and another account impersonates the other one."""
    catalogue = Catalogue(cloud.home, SystemClock())
    publish_image(catalogue, person, "cellar-1", tmp_path / "disk.raw", "cellar", approvals={"vault": 2})
    request(person, "promote", image="cellar-1", to="vault")
    [asked] = person.waiting(1)
    assert (asked["image"], asked["channel"], asked["approvals"], asked["at_least"]) == ("cellar-1", "vault", [], 2)
    ann, eve = (person.logged_in(cloud.account_file(cloud.email(name))) for name in ("ann", "eve"))
    words = ("images", "approve", "cellar-1", "--channel", "vault", "--reason", "it ran for a week")

    assert "a person's own login gives no such token" in person.goldsmith(*words, status=3)
    (tmp_path / "token").write_text(ann.token("other"))
    refused = person.goldsmith(*words, "--token-file", tmp_path / "token", status=2)
    assert "the token is for 'other', and not for goldsmith/goldsmith-emulator/approve/" in refused
    names = {"PROJECT": person.project, "my-project": person.project, "web-20261120": "cellar-1", "web-1": "cellar-1"}
    by_ann, by_eve = (
        Reader(person.folder, each.environment, {**names, "prod": "vault", APPROVER: cloud.email("ben")})
        for each in (ann, eve)
    )
    by_ann.types(
        'goldsmith images approve web-1 --channel prod --reason "a week in dev without faults" --project PROJECT',
        says=f"approved by {cloud.email('ann')}",
    )
    foreign = eve.token(asked["approve_audience"])  # of a person that is no approver, brought by an operator
    request(person, "approve", image="cellar-1", channel="vault", reason="mine", token=foreign)

    by_eve.types(
        "goldsmith images approve web-20261120 --channel prod --project my-project --impersonate "
        'ann-approves@my-project.iam.gserviceaccount.com --reason "a week in staging without faults"',
        says=f"was approved by {cloud.email('ann')}, {cloud.email('ben')}",
    )
    wait_for(catalogue, "cellar-vault", "cellar-1-vault")
    assert person.waiting(0) == []
    log = cloud.functions.log("deprecate_images").read_text()
    assert f"{cloud.email('eve')} is no approver of the channel vault" in log
    assert foreign not in log

    said = in_browser(cloud, "eve", "/ask/promote", target=f"{person.project}/cellar-1", channel="dev")
    assert f"{cloud.email('eve')} is no operator of this deployment" in said
    said = in_browser(cloud, "ann", "/ask/promote", target=f"{person.project}/cellar-1", channel="dev")
    assert "is in the channel dev, as cellar-1-dev" in said
    assert leads_to(catalogue, "cellar-dev") == "cellar-1-dev"


def in_browser(cloud: Cloud, account: str, path: str, **target: str) -> str:
    """Ask for something in the dashboard, as a person whom Identity-Aware Proxy lets through; return what it says."""
    url = cloud.functions.urls["dashboard"]
    assertion = cloud.identity.iap_assertion(cloud.email(account), IAP_AUDIENCE)
    headers = {"Accept": "text/html", IAP_HEADER: assertion}
    with requests.Session() as session:
        page = session.get(url + path, params=target, headers=headers, timeout=60).text
        form = {name: unescape(value) for name, value in HIDDEN.findall(page)}
        if not form:
            return unescape(page)
        sent = {**form, "reason": "it ran for a week"}
        answer = session.post(f"{url}/ask", data=sent, headers={**headers, "Origin": url}, timeout=60)
    return unescape(answer.text)


def usage_of(person: Person, name: str) -> ImageUsage | None:
    known = person._store.image(person.project, name)
    assert known is not None
    return None if known.revoked is None else known.revoked.usage


def publish_image(
    catalogue: Catalogue,
    person: Person,
    name: str,
    disk: Path,
    family: str = "shop",
    data: bytes = bytes(1 << 20),
    **changes: Any,
) -> None:
    """Make an image of the project that a build of ours has published and verified."""
    disk.write_bytes(data)
    source = changes.get("source")
    build = build_of(name) if source is None else build_of(name, source=source.name)
    assert build.plan is not None
    image = ImagePlan(person.project, name, family=family, labels=build.plan.image.labels)
    plan = replace(build.plan, name=family, image=image, **changes)
    made = catalogue.add(disk, name, family=family, labels=plan.image.labels, licenses=[LICENSE], content=name)
    store = GoogleStore(person.project, person.environment["FIRESTORE_EMULATOR_HOST"])
    add_build(store, replace(build, plan=plan, image=ImageRecord(person.project, name, made.id)))


def request(person: Person, kind: str, **asked: object) -> None:
    text = json.dumps({kind: asked})
    person.run("gcloud", "pubsub", "topics", "publish", "image-requests", f"--message={text}")


def leads_to(catalogue: Catalogue, family: str) -> str | None:
    return next((image.name for image in catalogue.list(family=family) if image.deprecated is None), None)


def wait_for(catalogue: Catalogue, family: str, name: str) -> None:
    wait_until(lambda: leads_to(catalogue, family) == name, f"{family} does not lead to {name}")


def wait_until(holds: Callable[[], bool], told: str) -> None:
    give_up = time.monotonic() + 300
    while not holds():
        assert time.monotonic() < give_up, told
        time.sleep(0.2)
