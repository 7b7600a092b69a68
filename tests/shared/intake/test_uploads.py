"""The contexts of uploaded specs: fetched, checked as on one machine, packed, and uploaded once."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import pytest

from shared.context.packing import pack_context
from shared.intake.uploads import CONTEXT_LIMIT, OBJECT_LIMIT, UploadedContexts
from tests.shared.intake.test_workflows import image, workflow
from tests.shared.spec.reading import read_spec
from tests.world import values
from tests.world.intake import BUCKET, SCRIPT, SPEC, Desk, planned, reason
from tests.world.packed_context import packed_context


@pytest.fixture
def desk() -> Desk:
    return Desk()


def archive(*members: tarfile.TarInfo | str) -> bytes:
    """A tar.gz of members: files hold SCRIPT."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        for member in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(SCRIPT) if info.isreg() else 0
            file.addfile(info, io.BytesIO(SCRIPT.encode()))
    return packed.getvalue()


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_folder_is_what_lies_beside_the_spec(desk: Desk) -> None:
    desk.put("specs/team/preload.sh", SCRIPT)
    desk.put("specs/team/deep/er.txt", "deep")
    desk.put("specs/other/secret.txt", "other")
    context = planned(desk.upload(SPEC, "specs/team/hello.yaml")).context
    assert context is not None
    assert context.uri == f"gs://{BUCKET}/contexts/2026-11/{context.digest}.tar"
    with tarfile.open(fileobj=io.BytesIO(desk.objects.contents[context.uri, "5"])) as packed:
        assert packed.getnames() == ["deep", "deep/er.txt", "hello.yaml", "preload.sh"]


@pytest.mark.parametrize("packed", [False, True])
def test_a_context_that_is_found_is_not_about_to_be_deleted(desk: Desk, packed: bool) -> None:
    """The bucket deletes what lies below contexts/ by its age: in another month the same files are another object."""
    desk.put("specs/preload.sh", SCRIPT)
    data, digest = packed_context({"preload.sh": SCRIPT})
    desk.put(f"uploads/{digest}.tar", data)
    spec = SPEC.replace("context: .", f"context: gs://{BUCKET}/uploads/{digest}.tar") if packed else SPEC
    before = planned(desk.upload(spec)).context
    for days, month in ((10, "2026-11"), (20, "2026-12"), (51, "2027-01")):
        desk.world.clock.time = values.NOON + days * 86_400
        context = planned(desk.upload(spec)).context
        assert before is not None
        assert context is not None
        assert context.uri == f"gs://{BUCKET}/contexts/{month}/{context.digest}.tar"
        assert (context.digest, context.uri in {uri for uri, _ in desk.objects.contents}) == (before.digest, True)


def test_a_context_of_the_release_before_is_taken_by_its_name(desk: Desk) -> None:
    data, digest = packed_context({"preload.sh": SCRIPT})
    desk.put(f"contexts/{digest}.tar", data)
    context = planned(desk.upload(SPEC.replace("context: .", f"context: gs://{BUCKET}/contexts/{digest}.tar"))).context
    assert context is not None
    assert context.uri == f"gs://{BUCKET}/contexts/2026-11/{digest}.tar"


def test_same_context_is_uploaded_once_and_has_the_digest_of_one_machine(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/preload.sh").write_text(SCRIPT)
    local = pack_context(tmp_path / "files", tmp_path / "packed.tar")
    desk.put("specs/files/preload.sh", SCRIPT)
    spec = SPEC.replace("context: .", "context: files")
    first, second = (planned(desk.upload(spec)).context for _ in range(2))
    assert first == second
    assert first is not None
    assert (first.digest, first.size) == (local.digest, local.size)
    assert [uri for uri, _ in desk.objects.contents if "/contexts/" in uri] == [first.uri]


def test_execute_bit_of_gsutil_is_kept(desk: Desk) -> None:
    desk.put("specs/preload.sh", SCRIPT, {"goog-reserved-posix-mode": "755"})
    desk.put("specs/plain.sh", SCRIPT, {"goog-reserved-posix-mode": "644"})
    context = planned(desk.upload(SPEC)).context
    assert context is not None
    with tarfile.open(fileobj=io.BytesIO(desk.objects.contents[context.uri, "4"])) as packed:
        modes = {info.name: info.mode for info in packed}
    assert (modes["preload.sh"], modes["plain.sh"]) == (0o755, 0o644)


@pytest.mark.parametrize(
    ("context", "place"),
    [
        ("files.tgz", f"gs://{BUCKET}/specs/files.tgz"),
        ("../specs/./files.tgz", f"gs://{BUCKET}/specs/files.tgz"),
        ("gs://elsewhere/files.tgz", "gs://elsewhere/files.tgz"),
    ],
)
def test_archive(desk: Desk, context: str, place: str) -> None:
    desk.objects.put(place, archive("preload.sh"))
    found = planned(desk.upload(SPEC.replace("context: .", f"context: {context}"))).context
    assert found is not None
    assert found.uri in desk.objects.live
    desk.objects.put(place, archive("other.sh"))
    told = reason(desk.upload(SPEC.replace("context: .", f"context: {context}")))
    assert "steps[0].inputs.script: 'preload.sh' is not in the context gs://" in told
    assert "/tmp" not in told


@pytest.mark.parametrize(
    ("context", "told"),
    [
        ("files", f"gs://{BUCKET}/specs/files does not exist; write the path of a folder or tar archive"),
        ("/etc", f"/etc leads out of gs://{BUCKET}/specs/; write a path beside the spec"),
        ("../cidata", f"../cidata leads out of gs://{BUCKET}/specs/; write a path beside the spec"),
        ("../../../etc", f"../../../etc leads out of gs://{BUCKET}/specs/; write a path beside the spec"),
        ("gs://elsewhere/no.tar", "gs://elsewhere/no.tar does not exist; upload it first"),
        (f"gs://{BUCKET}/cidata/gs-x-a1-vm.tar", "is neither below specs/ nor below uploads/"),
        (f"gs://{BUCKET}/logs/x/y.log", "is neither below specs/ nor below uploads/"),
    ],
)
def test_context_that_cannot_be_one(desk: Desk, context: str, told: str) -> None:
    desk.put("cidata/gs-x-a1-vm.tar", archive("preload.sh"))
    found = reason(desk.upload(SPEC.replace("context: .", f"context: {context}")))
    assert found.startswith(f"gs://{BUCKET}/specs/hello.yaml:8:1: context: ")
    assert told in found


@pytest.mark.parametrize("context", ["preload.sh", "gs://elsewhere/deep/preload.sh"])
def test_context_may_be_one_file(desk: Desk, tmp_path: Path, context: str) -> None:
    """start-image-build -build-context: a path to a file or directory."""
    (tmp_path / "preload.sh").write_text(SCRIPT)
    desk.put("specs/preload.sh", SCRIPT)
    desk.objects.put("gs://elsewhere/deep/preload.sh", SCRIPT)
    made = planned(desk.upload(SPEC.replace("context: .", f"context: {context}"))).context
    assert made is not None
    assert made.digest == pack_context(tmp_path / "preload.sh", tmp_path / "packed.tar").digest


def test_one_file_that_is_not_the_script(desk: Desk) -> None:
    found = reason(desk.upload(SPEC.replace("context: .", "context: hello.yaml")))
    told = f"steps[0].inputs.script: 'preload.sh' is not in the context gs://{BUCKET}/specs/hello.yaml; put it there"
    assert told in found


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (member("../evil", tarfile.REGTYPE), "'../evil' lies outside the context"),
        (member("/etc/passwd", tarfile.REGTYPE), "'/etc/passwd' lies outside the context"),
        (member("dev", tarfile.CHRTYPE), "'dev' is a device, socket or fifo"),
        (member("link", tarfile.SYMTYPE, "../../etc"), "'link' is a link to '../../etc', which leads out"),
    ],
)
def test_archive_with_bad_members(desk: Desk, bad: tarfile.TarInfo, told: str) -> None:
    desk.put("specs/files.tgz", archive("preload.sh", bad))
    found = reason(desk.upload(SPEC.replace("context: .", "context: files.tgz")))
    assert re.search(r"hello\.yaml:8:1: context: .*" + re.escape(told), found)


@pytest.mark.parametrize("name", ["specs/a/../../x", "specs//double", "specs/" + "x" * 256, "specs/nul\0"])
def test_object_that_cannot_be_a_file(desk: Desk, name: str) -> None:
    desk.put("specs/preload.sh", SCRIPT)
    desk.put(name, "x")
    assert f"gs://{BUCKET}/{name} cannot be a file; rename it" in reason(desk.upload(SPEC))


def test_object_that_is_a_folder_as_well(desk: Desk) -> None:
    desk.put("specs/a", "x")
    desk.put("specs/a/b", "x")
    assert "rename one of them" in reason(desk.upload(SPEC))


def test_folder_markers_are_folders(desk: Desk) -> None:
    desk.put("specs/preload.sh", SCRIPT)
    desk.put("specs/empty/", "")
    assert planned(desk.upload(SPEC)).context is not None


def test_context_that_is_too_large_is_not_fetched(desk: Desk) -> None:
    desk.objects.put(f"gs://{BUCKET}/specs/data", b"", size=CONTEXT_LIMIT + 1)
    assert "context: gs://goldsmith-test/specs/ holds more than 256 MiB" in reason(desk.upload(SPEC))
    assert desk.objects.downloaded == [f"gs://{BUCKET}/specs/hello.yaml"]


def test_contexts_that_are_too_large_together_are_not_all_fetched(desk: Desk) -> None:
    """Each is within its limit, and a function would have four of them in its memory at once."""
    for name in "abcd":
        desk.objects.put(f"gs://{BUCKET}/specs/{name}/data", b"", size=CONTEXT_LIMIT)
    text = workflow(*(image(name, context=name) for name in "abcd"))
    builds = desk.intake.uploaded("specs/cloudbuild.yaml", desk.put("specs/cloudbuild.yaml", text))
    [told] = {reason(build) for build in builds}
    assert f"gs://{BUCKET}/specs/d/, with what the other contexts" in told
    assert "has more than 768 MiB or 5000 objects" in told
    assert f"gs://{BUCKET}/specs/d/data" not in desk.objects.downloaded


def test_folders_beside_a_context_count_too(desk: Desk) -> None:
    for name in "abcd":
        desk.objects.put(f"gs://{BUCKET}/specs/web/{name}/data", b"", size=CONTEXT_LIMIT)
    steps = "".join(
        f"  - {{name: {name}, action: install-gpu, inputs: {{version: '1', deps_dir: ../{name}}}}}\n" for name in "bcd"
    )
    text = f"name: web\nsource: {{project: local, family: debian-12}}\ncontext: a\nsteps:\n{steps}"
    assert "has more than 768 MiB" in reason(desk.upload(text, "specs/web/build.yaml"))


def test_what_is_packed_is_not_kept(desk: Desk, tmp_path: Path) -> None:
    desk.put("specs/preload.sh", SCRIPT)
    contexts = UploadedContexts(
        desk.objects, BUCKET, tmp_path, spec_uri=f"gs://{BUCKET}/specs/a.yaml", packed=None, now=0
    )
    spec = read_spec(SPEC, "hello.yaml")
    assert contexts.check({"context": "."}) == []
    packed = contexts.pack(spec)
    assert contexts.pack(spec) == packed
    assert list(tmp_path.rglob("*.tar")) == []


def test_context_of_too_many_objects(desk: Desk) -> None:
    for number in range(OBJECT_LIMIT):
        desk.put(f"specs/{number}", "")
    assert f"more than 256 MiB or {OBJECT_LIMIT} objects" in reason(desk.upload(SPEC))


def test_archive_that_is_too_large_once_unpacked(desk: Desk) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        info = tarfile.TarInfo("preload.sh")
        info.size = CONTEXT_LIMIT + 1
        file.addfile(info, io.BytesIO(bytes(info.size)))
    desk.put("specs/files.tgz", packed.getvalue())
    found = reason(desk.upload(SPEC.replace("context: .", "context: files.tgz")))
    assert f"gs://{BUCKET}/specs/files.tgz holds more than 256 MiB" in found
