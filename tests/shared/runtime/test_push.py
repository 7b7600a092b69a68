"""Images of this machine brought to a project: endpoints of ours in place of Google's, seen by gcloud."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from emulator.web.http_server import HttpServer
from emulator.web.identity import Identity
from shared.build.build import ChannelCopy, ImageRecord, Revocation, State
from shared.errors import DamagedDocument, GoldsmithError, InputError, NotFound, Permanent, Transient
from shared.gcp.resumable import send_file
from shared.images.archived import ArchivedAs
from shared.names import BUILD_LABEL, COPY_LABEL
from shared.ports import Clock, CopyRequest, Progress
from shared.runtime.one_machine import LocalBackend, open_one_machine
from shared.runtime.push import OLD_SECONDS, PushedImage, PushTarget, push_image
from tests.contracts.compute_contract import IDLE
from tests.shared.disks.small_disks import os_tree, rooted
from tests.shared.gcp.compute.compute_cloud import BUCKET, PROJECT, Cloud, open_cloud
from tests.shared.gcp.compute.compute_cloud import Clock as SetClock
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


@pytest.mark.slow
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
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    told = ["gcloud", "compute", "images", "describe-from-family", "hello", "--format=json"]
    seen = json.loads(subprocess.run(told, env=environment, capture_output=True, check=True, timeout=240).stdout)
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


@pytest.mark.slow
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


def test_what_the_store_cannot_vouch_for_is_refused(cloud: Cloud, backend: LocalBackend) -> None:
    """An image that is being built has a document without its id; one that cannot be read may say anything."""
    known = backend.store.image("local", "web")
    assert known is not None
    being_made = replace(known, state="reserved", id="")
    assert backend.store.save_image(being_made, known)
    with pytest.raises(InputError, match="is not published, and may be untested; see: goldsmith builds show web-"):
        push(backend, target_of(cloud))
    assert backend.store.save_image(replace(being_made, state="gone"), being_made)  # and the build is not at its end
    build = build_of("early", outcome=None, state=State.EXPORTING)
    add_build(backend.store, build)
    backend.catalogue.add(backend.catalogue.disk("web"), "early", labels={BUILD_LABEL: build.id}, transfer="copy")
    early = backend.store.image("local", "early")
    assert early is not None
    assert backend.store.save_image(replace(early, state="gone"), early)
    with pytest.raises(InputError, match="image early is not published"):
        push(backend, target_of(cloud), "early", "early")
    assert cloud.objects() == []


def test_a_damaged_record_is_no_yes(cloud: Cloud, backend: LocalBackend) -> None:
    with closing(sqlite3.connect(backend.home / "state.db")) as database, database:
        database.execute("UPDATE images SET document = '{' WHERE name = 'web'")
    with pytest.raises(DamagedDocument):
        push(backend, target_of(cloud))
    assert cloud.objects() == []


def test_the_copy_of_a_revoked_image_is_refused_before_its_own_record_says_so(
    cloud: Cloud, backend: LocalBackend
) -> None:
    image, known = backend.catalogue.get("web"), backend.store.image("local", "web")
    assert image is not None
    assert known is not None
    copy = backend.catalogue.add(backend.catalogue.disk("web"), "web-prod", transfer="copy")
    of_it = ChannelCopy("web", image.id, "prod", f"{FAMILY}-prod", 1.0)
    document = replace(known, name="web-prod", id=copy.id, copy=of_it)
    assert backend.store.save_image(document, None)
    assert backend.store.save_image(replace(known, revoked=Revocation("bad", 1.0)), known)
    with pytest.raises(InputError, match="image web-prod was revoked at"):
        push(backend, target_of(cloud), "web-prod")
    assert cloud.objects() == []


def test_an_image_that_others_have_made_is_none_of_a_push_whatever_its_label(
    cloud: Cloud, backend: LocalBackend
) -> None:
    image = backend.catalogue.get("web")
    assert image is not None
    compute = cloud.compute()
    source = compute.image(PROJECT, IDLE)
    assert source is not None
    compute.label_image(compute.copy_image(CopyRequest(PROJECT, "web", IDLE, source.id, 1.0)), {COPY_LABEL: image.id})
    with pytest.raises(InputError, match="has another image web; choose another name with --as"):
        push(backend, target_of(cloud))
    made = compute.image(PROJECT, "web")
    assert made is not None
    assert made.family is None
    assert cloud.objects() == []


def test_an_image_that_was_ended_there_is_not_told_as_pushed(cloud: Cloud, backend: LocalBackend) -> None:
    push(backend, target_of(cloud))
    made = cloud.compute().image(PROJECT, "web")
    assert made is not None
    cloud.compute().obsolete_image(made, "")
    with pytest.raises(InputError, match="was pushed before, and is OBSOLETE there by now; delete it there"):
        push(backend, target_of(cloud))


def test_an_archive_that_was_deleted_is_uploaded_anew(cloud: Cloud, backend: LocalBackend) -> None:
    """The session of an upload that was done tells of the object for a week, also when that is gone."""
    with pytest.raises(Died):
        push(backend, target_of(cloud, 6))
    [uri] = cloud.objects()
    cloud.bucket.delete(uri)
    with pytest.raises(Transient, match=f"push it again, which uploads {uri} anew"):
        push(backend, target_of(cloud))
    assert push(backend, target_of(cloud)).name == "web"
    assert cloud.objects() == []


@pytest.mark.parametrize("damaged", ["", "[]", "{}", '{"object": "gs://x/y"}', "\ufffd{"])
def test_a_damaged_session_is_opened_anew(cloud: Cloud, backend: LocalBackend, damaged: str) -> None:
    with pytest.raises(Died):
        push(backend, target_of(cloud, 5))
    [folder] = pushes(backend)
    (folder / "session.json").write_text(damaged)
    assert push(backend, target_of(cloud)).name == "web"


def test_another_image_can_have_the_name_of_a_deleted_one_at_once(cloud: Cloud, backend: LocalBackend) -> None:
    """Compute Engine takes a request for one that it knows by its id: it has to tell the two archives apart."""
    for name in ("first", "second"):  # imported, so no build tells them apart
        backend.catalogue.add(backend.catalogue.disk("web"), name, transfer="copy")
    cloud.clock.hold()
    push(backend, target_of(cloud), "first")
    cloud.compute().delete("image", "web", PROJECT, "")
    second = backend.catalogue.get("second")
    assert second is not None
    push(backend, target_of(cloud), "second")
    made = cloud.compute().image(PROJECT, "web")
    assert made is not None
    assert made.labels[COPY_LABEL] == second.id


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


def test_no_error_of_an_upload_tells_its_session(cloud: Cloud, tmp_path: Path) -> None:
    """Who knows the URL can write the object."""
    (tmp_path / "file").write_bytes(b"data")
    uri = f"gs://{BUCKET}/file"
    for status in (302, 400, 403, 404):
        session = cloud.bucket.begin_upload(uri)
        cloud.storage.faults.answer(status, matching="PUT .*upload_id")
        with pytest.raises(GoldsmithError) as raised:
            send_file(session, tmp_path / "file", uri, lambda what, done, total: None, cloud.clock)
        told = "".join(traceback.format_exception(raised.value))
        assert "upload_id" not in told
    with pytest.raises(NotFound, match="its upload cannot be found again"):
        send_file("upload_id=secret", tmp_path / "file", uri, lambda what, done, total: None, cloud.clock)


def test_an_answer_that_was_cut_off_is_asked_for_again(tmp_path: Path) -> None:
    answers = [("<html>", 200), ("[1]", 200), ('{"name": "file"}', 200)]
    server = Flask("proxy")

    @server.put("/upload")
    def upload() -> tuple[str, int]:
        return answers.pop(0)

    (tmp_path / "file").write_bytes(b"data")
    with HttpServer(server) as served:
        url = f"{served.url}/upload"
        made = send_file(url, tmp_path / "file", "gs://b/file", lambda what, done, total: None, SetClock())
    assert (made["name"], answers) == ("file", [])
