"""Images of Compute Engine shared with members and copied to other projects, as gcloud sees it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.cloud import compute_v1

from emulator.web.identity import Identity
from shared.errors import AlreadyExists, NotFound, Permanent, Transient
from shared.gcp.compute.images import Images
from shared.names import COPY_LABEL
from shared.ports import Duplicate, Image
from tests.shared.gcp.compute.compute_cloud import IDLE, PROJECT, Cloud, FusedCalls, open_cloud
from tests.world.fuse import Died, Fuse

TEAM, ROBOT = "group:team@example.com", "serviceAccount:robot@my-project.iam.gserviceaccount.com"
USER, OTHER, WEB = "roles/compute.imageUser", "other-project", "web-1"
Policies = compute_v1.ImagesClient


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with open_cloud(tmp_path, Identity(tmp_path / "identity")) as cloud:
        yield cloud


def web_image(cloud: Cloud) -> Image:
    """An image of the project, with a label."""
    found = cloud.compute().image(PROJECT, WEB)
    if found is not None:
        return found
    source = f"projects/debian-cloud/global/images/{IDLE}"
    image = compute_v1.Image(name=WEB, source_image=source, labels={"team": "infra"})
    operation = cloud.client(Policies).insert_unary(project=PROJECT, image_resource=image)
    cloud.client(compute_v1.GlobalOperationsClient).wait(project=PROJECT, operation=operation.name)
    return web_image(cloud)


def gcloud(cloud: Cloud, folder: Path, *words: str) -> Any:
    """What `gcloud compute images` says, as JSON."""
    environment = {
        **os.environ,
        **cloud.endpoint.environment,
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CONFIG": str(folder / "gcloud"),
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_PROJECT": PROJECT,
    }
    command = ["gcloud", "compute", "images", *words, "--format=json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_gcloud_sees_members_and_copies(cloud: Cloud, tmp_path: Path) -> None:
    """What a person has granted stays, and the copy is the other project's own."""
    image, compute = web_image(cloud), cloud.compute()
    gcloud(cloud, tmp_path, "add-iam-policy-binding", WEB, "--member=user:me@example.com", "--role=roles/viewer")
    wanted = Duplicate(OTHER, WEB, image, "asia", family="web")
    copy = compute.duplicate_image(wanted)
    assert compute.duplicate_image(wanted) == copy
    for member in (TEAM, ROBOT, TEAM):
        compute.share_image(image, member)
    policy = gcloud(cloud, tmp_path, "get-iam-policy", WEB)
    granted = {each["role"]: each["members"] for each in policy["bindings"]}
    assert granted == {"roles/viewer": ["user:me@example.com"], USER: [TEAM, ROBOT]}
    seen = gcloud(cloud, tmp_path, "describe-from-family", "web", f"--project={OTHER}")
    assert (seen["name"], seen["id"], seen["status"]) == (WEB, copy.id, "READY")
    assert (seen["labels"], seen["storageLocations"]) == ({"team": "infra", COPY_LABEL: image.id}, ["asia"])
    assert seen["sourceImageId"] == image.id
    assert seen["sourceImage"].endswith(f"projects/{PROJECT}/global/images/{WEB}")
    assert gcloud(cloud, tmp_path, "describe", WEB)["id"] == image.id != copy.id
    compute.obsolete_image(copy, "")
    assert gcloud(cloud, tmp_path, "describe", WEB, f"--project={OTHER}")["deprecated"]["state"] == "OBSOLETE"
    assert "deprecated" not in gcloud(cloud, tmp_path, "describe", WEB)


def test_what_another_writer_grants_meanwhile_stays(cloud: Cloud) -> None:
    image, compute = web_image(cloud), cloud.compute()
    compute.share_image(image, TEAM)
    client = cloud.client(Policies)

    class Late(FusedCalls):
        """Lets another writer in between a policy's reading and its writing, once."""

        done = False

        def call(self, method: Any, request: object, seconds: float) -> Any:
            if isinstance(request, compute_v1.SetIamPolicyImageRequest) and not self.done:
                self.done = True
                policy = client.get_iam_policy(project=PROJECT, resource=WEB)
                policy.bindings.append(compute_v1.Binding(role="roles/viewer", members=[ROBOT]))
                wanted = compute_v1.GlobalSetPolicyRequest(policy=policy)
                client.set_iam_policy(project=PROJECT, resource=WEB, global_set_policy_request_resource=wanted)
            return super().call(method, request, seconds)

    Images(Late(cloud.settings, cloud.clock, Fuse(None))).share(image, ROBOT)
    policy = client.get_iam_policy(project=PROJECT, resource=WEB)
    granted = {each.role: list(each.members) for each in policy.bindings}
    assert granted == {USER: [TEAM, ROBOT], "roles/viewer": [ROBOT]}


def test_a_binding_with_a_condition_is_left_alone(cloud: Cloud) -> None:
    image, client = web_image(cloud), cloud.client(Policies)
    soon = compute_v1.Expr(title="soon", expression='request.time < timestamp("2027-01-01T00:00:00Z")')
    policy = compute_v1.Policy(version=3, bindings=[compute_v1.Binding(role=USER, members=[TEAM], condition=soon)])
    wanted = compute_v1.GlobalSetPolicyRequest(policy=policy)
    client.set_iam_policy(project=PROJECT, resource=WEB, global_set_policy_request_resource=wanted)
    cloud.compute().share_image(image, TEAM)
    bindings = client.get_iam_policy(project=PROJECT, resource=WEB).bindings
    assert [(list(each.members), each.condition.title) for each in bindings] == [([TEAM], "soon"), ([TEAM], "")]


def test_a_lost_answer_grants_and_copies_once(cloud: Cloud) -> None:
    image, compute = web_image(cloud), cloud.compute()
    cloud.endpoint.lose_answer("setIamPolicy")
    compute.share_image(image, TEAM)
    bindings = cloud.client(Policies).get_iam_policy(project=PROJECT, resource=WEB).bindings
    assert [list(each.members) for each in bindings] == [[TEAM]]
    cloud.endpoint.lose_answer(f"POST /compute/v1/projects/{OTHER}/global/images")
    assert compute.duplicate_image(Duplicate(OTHER, "copy", image)).labels[COPY_LABEL] == image.id


def test_a_copy_that_dies_anywhere_goes_on(cloud: Cloud) -> None:
    image = web_image(cloud)
    for last in range(1, 40):
        wanted = Duplicate(OTHER, f"copy-{last}", image, family="web")
        try:
            cloud.fused(last).duplicate_image(wanted)
        except Died:
            made = cloud.compute().duplicate_image(wanted)
            assert (made.name, made.family) == (f"copy-{last}", "web")
        else:
            break
    assert last > 8


def test_another_image_of_the_name_stays(cloud: Cloud) -> None:
    image, compute = web_image(cloud), cloud.compute()
    with pytest.raises(AlreadyExists, match=f"image {WEB} of project {PROJECT} is no copy of {PROJECT}/{WEB}"):
        compute.duplicate_image(Duplicate(PROJECT, WEB, image))
    with pytest.raises(NotFound, match=f"image {WEB} is gone from project {PROJECT}"):
        compute.share_image(replace(image, id="1"), TEAM)


def test_what_is_not_allowed_is_told(cloud: Cloud) -> None:
    image, compute = web_image(cloud), cloud.compute()
    cloud.endpoint.deny("compute.images.setIamPolicy")
    with pytest.raises(Permanent, match=r"permission compute\.images\.setIamPolicy is missing"):
        compute.share_image(image, TEAM)
    cloud.endpoint.deny("compute.images.create")
    with pytest.raises(Permanent, match=r"permission compute\.images\.create is missing"):
        compute.duplicate_image(Duplicate(OTHER, "copy", image))


def test_a_policy_that_others_write_all_the_time_is_left_for_later(cloud: Cloud) -> None:
    image = web_image(cloud)
    cloud.endpoint.fail_next("setIamPolicy", 412, 99, "conditionNotMet")
    with pytest.raises(Transient, match="others change it at the same time"):
        cloud.compute().share_image(image, TEAM)


def test_a_copy_keeps_the_key_of_its_image_where_it_gets_no_other(cloud: Cloud) -> None:
    key = f"projects/{PROJECT}/locations/us/keyRings/ring/cryptoKeys/key"
    cloud.endpoint.provide_key(key)
    found = web_image(cloud)
    encrypted = compute_v1.Image(
        name="encrypted",
        source_image=f"projects/{PROJECT}/global/images/{found.name}",
        image_encryption_key=compute_v1.CustomerEncryptionKey(kms_key_name=key),
    )
    operation = cloud.client(Policies).insert_unary(project=PROJECT, image_resource=encrypted)
    cloud.client(compute_v1.GlobalOperationsClient).wait(project=PROJECT, operation=operation.name)
    image = cloud.compute().image(PROJECT, "encrypted")
    assert image is not None
    cloud.compute().duplicate_image(Duplicate(OTHER, "encrypted", image))
    made = cloud.client(Policies).get(project=OTHER, image="encrypted").image_encryption_key.kms_key_name
    assert made.partition("/cryptoKeyVersions/")[0] == key
