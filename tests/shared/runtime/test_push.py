"""Images of this machine brought to a project: endpoints of ours in place of Google's, seen by gcloud."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from emulator.web.identity import Identity
from shared.build.build import ImageRecord, Revocation
from shared.errors import InputError, Permanent, Transient
from shared.gcp.resumable import send_file
from shared.images.archived import ArchivedAs
from shared.names import BUILD_LABEL, COPY_LABEL
from shared.ports import Clock, Progress
from shared.runtime.one_machine import LocalBackend, open_one_machine
from shared.runtime.push import OLD_SECONDS, PushedImage, PushTarget, push_image
from tests.shared.disks.small_disks import os_tree, rooted
from tests.shared.gcp.compute.compute_cloud import BUCKET, PROJECT, Cloud, open_cloud
from tests.world.fuse import Died, Fuse
from tests.world.published import FAMILY, add_build, build_of

GOLDSMITH = Path(__file__).resolve().parents[3] / ".venv" / "bin" / "goldsmith"
GVNIC = "usr/lib/modules/6.1.0-9-cloud-amd64/kernel/drivers/net/ethernet/google/gve"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    (tmp_path / "cloud").mkdir()
    with open_cloud(tmp_path / "cloud", Identity(tmp_path / "identity")) as cloud:
        yield cloud


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[LocalBackend]:
    """A home with an image that a build has published, and whose spec names what only Google Cloud has."""
    tree = os_tree(tmp_path / "tree")
    (tree / GVNIC).mkdir(parents=True)
    (tree / GVNIC / "gve.ko.xz").touch()
    disk = rooted(tmp_path / "disk.raw", tree)
    with open_one_machine(tmp_path / "home") as backend:
        build = build_of("web")
        assert build.plan is not None
        wanted = replace(build.plan.image, guest_os_features=("SEV_CAPABLE",), storage_locations=("eu",))
        build = replace(build, plan=replace(build.plan, image=wanted))
        labels = {**wanted.labels, "team": "infra"}
        image = backend.catalogue.add(disk, "web", family=FAMILY, labels=labels, description="says hello")
        add_build(backend.store, replace(build, image=ImageRecord("local", "web", image.id)))
        yield backend


@dataclass
class Fused:
    """An adapter whose process ends before or after one of its calls."""

    adapter: Any
    fuse: Fuse

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.adapter, name)

        def fused(*arguments: Any, **named: Any) -> Any:
            self.fuse.touch()
            answer = method(*arguments, **named)
            self.fuse.touch()
            return answer

        return fused


def target_of(cloud: Cloud, last: int | None = None) -> PushTarget:
    fuse = Fuse(last)

    def send(session: str, file: Path, uri: str, progress: Progress, clock: Clock) -> Mapping[str, Any]:
        fuse.touch()
        described = send_file(session, file, uri, progress, clock)
        fuse.touch()
        return described

    return PushTarget(Fused(cloud.compute(), fuse), Fused(cloud.bucket, fuse), send, BUCKET)


def push(
    backend: LocalBackend, target: PushTarget, name: str = "web", asked: str = "web", **changes: Any
) -> PushedImage:
    options: dict[str, Any] = {"family": "hello", "keep": False, **changes}
    features = options.pop("features", ())
    family, keep = options.pop("family"), options.pop("keep")
    return push_image(name, ArchivedAs(PROJECT, asked, features), family, target, backend, keep=keep)


def pushes(backend: LocalBackend) -> list[Path]:
    return [*(backend.home / "pushes").iterdir()]


def test_gcloud_sees_the_image_of_a_command(cloud: Cloud, backend: LocalBackend, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        **cloud.endpoint.environment,
        "STORAGE_EMULATOR_HOST": cloud.storage.url,
        "GOLDSMITH_HOME": str(backend.home),
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CONFIG": str(tmp_path / "gcloud"),
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_PROJECT": PROJECT,
    }
    command = [str(GOLDSMITH), "images", "push", "web", "--project", PROJECT, "--bucket", BUCKET, "--family", "hello"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    told = ["gcloud", "compute", "images", "describe-from-family", "hello", "--format=json"]
    seen = json.loads(subprocess.run(told, env=environment, capture_output=True, check=True, timeout=120).stdout)
    local = backend.catalogue.get("web")
    known = backend.store.image("local", "web")
    assert local is not None
    assert known is not None
    assert (seen["name"], seen["status"], seen["description"]) == ("web", "READY", "says hello")
    assert seen["labels"] == {**local.labels, COPY_LABEL: local.id}
    assert seen["labels"][BUILD_LABEL] == known.build_id
    features = [each["type"] for each in seen["guestOsFeatures"]]
    assert features == ["VIRTIO_SCSI_MULTIQUEUE", "GVNIC", "SEV_CAPABLE"]
    assert (seen["storageLocations"], seen["architecture"]) == (["eu"], "X86_64")
    assert [(each.project, each.name, each.id) for each in known.pushed] == [(PROJECT, "web", seen["id"])]
    assert cloud.objects() == []
    assert pushes(backend) == []
    shown = subprocess.run([str(GOLDSMITH), "images", "show", "web"], env=environment, capture_output=True, text=True)
    assert f"pushed:      {PROJECT}/web, id {seen['id']}" in shown.stdout


def test_a_push_that_dies_anywhere_goes_on(cloud: Cloud, backend: LocalBackend) -> None:
    """The process ends before or after each call; the next one makes one image of each name, and leaves nothing."""
    calls = 0
    for last in range(1, 30):
        name = f"web-{last}"
        try:
            push(backend, target_of(cloud, last), asked=name)
        except Died:
            calls = last
            done = push(backend, target_of(cloud), asked=name)
            assert (done.name, done.family, done.archive) == (name, "hello", "")
        else:
            break
    assert calls >= 10
    assert cloud.objects() == []
    assert pushes(backend) == []
    known = backend.store.image("local", "web")
    assert known is not None
    assert [each.name for each in known.pushed] == [f"web-{number}" for number in range(1, calls + 2)]


def test_the_second_time_nothing_is_uploaded(cloud: Cloud, backend: LocalBackend) -> None:
    first = push(backend, target_of(cloud))
    cloud.storage.faults.answer(500, times=99, matching="POST .*upload")
    second = push(backend, target_of(cloud))
    assert (first.was_there, second.was_there, second.id) == (False, True, first.id)
    known = backend.store.image("local", "web")
    assert known is not None
    assert len(known.pushed) == 1


def test_the_archive_stays_where_that_is_wanted(cloud: Cloud, backend: LocalBackend) -> None:
    done = push(backend, target_of(cloud), keep=True)
    assert cloud.objects() == [done.archive]


def test_an_archive_that_may_not_be_deleted_is_named(cloud: Cloud, backend: LocalBackend) -> None:
    cloud.storage.faults.deny("storage.objects.delete")
    done = push(backend, target_of(cloud))
    assert cloud.objects() == [done.archive]
    assert done.note.startswith(f"{done.archive} stays: ")
    assert pushes(backend) == []


def test_a_session_that_is_over_is_opened_anew(cloud: Cloud, backend: LocalBackend) -> None:
    with pytest.raises(Died):
        push(backend, target_of(cloud, 5))
    [folder] = pushes(backend)
    told = json.loads((folder / "session.json").read_text())
    assert folder.parent.stat().st_mode & 0o077 == 0  # who knows the session may write there
    (folder / "session.json").write_text(json.dumps({**told, "session": told["session"] + "0"}))
    assert push(backend, target_of(cloud)).name == "web"
    assert cloud.objects() == []


def test_another_image_of_the_name_stays(cloud: Cloud, backend: LocalBackend) -> None:
    with pytest.raises(InputError, match="has another image idle; choose another name with --as"):
        push(backend, target_of(cloud), asked="idle")
    assert cloud.objects() == []


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"name": "nothing"}, "there is no image nothing"),
        ({"asked": "Web"}, "Web"),
        ({"asked": "gs-web"}, "begins with gs-"),
        ({"family": "No family"}, "--family: "),
        ({"features": ("FLIES",)}, "--guest-os-feature FLIES: choose from "),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_made(
    cloud: Cloud, backend: LocalBackend, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(InputError, match=why):
        push(backend, target_of(cloud), **changes)
    assert cloud.objects() == []
    assert not (backend.home / "pushes").exists()


def test_an_image_that_may_not_be_used_is_refused(cloud: Cloud, backend: LocalBackend) -> None:
    image, known = backend.catalogue.get("web"), backend.store.image("local", "web")
    assert image is not None
    assert known is not None
    backend.compute.obsolete_image(image, "")
    with pytest.raises(InputError, match="is OBSOLETE"):
        push(backend, target_of(cloud))
    held, revoked = replace(known, state="held"), replace(known, revoked=Revocation("bad", 1.0))
    assert backend.store.save_image(held, known)
    with pytest.raises(InputError, match="is not published, and may be untested"):
        push(backend, target_of(cloud))
    assert backend.store.save_image(revoked, held)
    with pytest.raises(InputError, match="was revoked at"):
        push(backend, target_of(cloud))
    assert cloud.objects() == []


def test_a_bucket_that_takes_nothing_is_told_before_the_archive_is_written(cloud: Cloud, backend: LocalBackend) -> None:
    with pytest.raises(Permanent, match="make the bucket, or name another one"):
        push(backend, replace(target_of(cloud), bucket="no-such-bucket"))
    cloud.storage.faults.deny("storage.objects.create")
    with pytest.raises(Permanent, match=r"storage\.objects\.create"):
        push(backend, target_of(cloud))
    assert [file for folder in pushes(backend) for file in folder.iterdir()] == []


def test_folders_of_a_week_ago_are_removed(cloud: Cloud, backend: LocalBackend) -> None:
    with pytest.raises(Died):
        push(backend, target_of(cloud, 5), asked="old")
    [old] = pushes(backend)
    past = time.time() - OLD_SECONDS - 60
    os.utime(old, (past, past))
    push(backend, target_of(cloud))
    assert pushes(backend) == []


def test_an_upload_that_breaks_goes_on_where_it_was(cloud: Cloud, tmp_path: Path) -> None:
    file, uri = tmp_path / "large", f"gs://{BUCKET}/large"
    file.write_bytes(os.urandom(20 << 20))
    told: list[int] = []
    cloud.storage.faults.answer(503, times=1, matching="PUT .*upload_id")
    session = cloud.bucket.begin_upload(uri)
    send_file(session, file, uri, lambda what, done, total: told.append(done), cloud.clock)
    assert cloud.bucket.read(uri) == file.read_bytes()
    assert told[-1] == 20 << 20
    again = send_file(session, file, uri, lambda what, done, total: None, cloud.clock)  # the answer was lost, say
    assert again["name"] == "large"


def test_an_upload_that_gets_nowhere_is_left_for_later(cloud: Cloud, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    session = cloud.bucket.begin_upload(f"gs://{BUCKET}/file")
    cloud.storage.faults.answer(503, times=9999, matching="PUT .*upload_id")
    with pytest.raises(Transient, match="nothing could be uploaded for 300 s; try again, which goes on"):
        send_file(session, tmp_path / "file", f"gs://{BUCKET}/file", lambda what, done, total: None, cloud.clock)
