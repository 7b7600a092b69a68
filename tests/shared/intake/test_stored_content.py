"""Objects named by a digest hold that content, or are not used, wherever another author could write a context."""

from __future__ import annotations

import io
import tarfile

import pytest

from shared.build.plan import Context
from shared.submission import CONTEXT_METADATA
from tests.world.intake import BUCKET, SCRIPT, SPEC, Desk, planned, reason
from tests.world.packed_context import packed_context

GOOD, DIGEST = packed_context({"preload.sh": SCRIPT})
EVIL, _ = packed_context({"preload.sh": "echo EVIL\n"})
UPLOADED = f"gs://{BUCKET}/uploads/{DIGEST}.tar"
KEPT = f"gs://{BUCKET}/contexts/2026-11/{DIGEST}.tar"
BEFORE = f"gs://{BUCKET}/contexts/{DIGEST}.tar"  # in the release before


@pytest.fixture
def desk() -> Desk:
    return Desk()


def submitted(desk: Desk, uri: str = UPLOADED) -> Context | None:
    return planned(desk.upload(SPEC, **{CONTEXT_METADATA: uri})).context


def content(desk: Desk, uri: str) -> bytes:
    return desk.objects.contents[uri, desk.objects.live[uri].generation]


def test_what_submit_has_uploaded_is_copied_to_where_only_functions_write(desk: Desk) -> None:
    desk.objects.put(UPLOADED, GOOD)
    assert submitted(desk) == Context(KEPT, DIGEST, len(GOOD))
    assert content(desk, KEPT) == GOOD
    assert submitted(desk) == Context(KEPT, DIGEST, len(GOOD))
    assert [uri for uri, _ in desk.objects.contents].count(KEPT) == 1


def test_an_upload_beside_one_that_holds_something_else_is_as_good(desk: Desk) -> None:
    desk.objects.put(UPLOADED, EVIL)
    beside = f"gs://{BUCKET}/uploads/{DIGEST}-0123456789abcdef.tar"
    desk.objects.put(beside, GOOD)
    assert submitted(desk, beside) == Context(KEPT, DIGEST, len(GOOD))
    assert content(desk, KEPT) == GOOD


@pytest.mark.parametrize("uri", [UPLOADED, KEPT, BEFORE], ids=["uploaded", "kept", "of the release before"])
def test_an_archive_under_another_ones_digest_is_refused(desk: Desk, uri: str) -> None:
    desk.objects.put(uri, EVIL)
    told = reason(desk.upload(SPEC, **{CONTEXT_METADATA: uri}))
    assert f"{uri} does not hold what its name says: its digest is " in told
    assert (KEPT in desk.objects.live) == (uri == KEPT)


def test_a_context_of_the_release_before_is_copied(desk: Desk) -> None:
    """It may be about to be deleted for its age."""
    desk.objects.put(BEFORE, GOOD)
    assert submitted(desk, BEFORE) == Context(KEPT, DIGEST, len(GOOD))
    assert content(desk, KEPT) == GOOD


def test_a_poisoned_context_reaches_no_other_author(desk: Desk) -> None:
    """Neither one who submits the good one, nor one whose files start_build packs itself."""
    desk.objects.put(KEPT, EVIL)
    desk.objects.put(UPLOADED, GOOD)
    told = reason(desk.upload(SPEC, **{CONTEXT_METADATA: UPLOADED}))
    assert f"{KEPT} does not hold what its name says" in told
    desk.put("specs/files/preload.sh", SCRIPT)
    told = reason(desk.upload(SPEC.replace("context: .", "context: files")))
    assert told == f"{KEPT} does not hold what its name says; delete it, and upload the spec again"
    assert content(desk, KEPT) == EVIL


@pytest.mark.parametrize("data", [b"packed", GOOD[:700], b""], ids=["no archive", "cut off", "empty"])
def test_what_is_no_archive_is_refused(desk: Desk, data: bytes) -> None:
    desk.objects.put(UPLOADED, data)
    told = reason(desk.upload(SPEC, **{CONTEXT_METADATA: UPLOADED}))
    assert told.startswith(f"gs://{BUCKET}/specs/hello.yaml:8:1: context: {UPLOADED}")
    assert "upload it again with goldsmith submit" in told
    assert KEPT not in desk.objects.live


def test_the_same_file_with_another_mode_is_another_context(desk: Desk) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("preload.sh")
        member.size, member.mode = len(SCRIPT), 0o755
        archive.addfile(member, io.BytesIO(SCRIPT.encode()))
    desk.objects.put(UPLOADED, packed.getvalue())
    assert "does not hold what its name says" in reason(desk.upload(SPEC, **{CONTEXT_METADATA: UPLOADED}))


def test_an_archive_larger_than_any_context_is_not_read(desk: Desk) -> None:
    desk.objects.put(UPLOADED, GOOD, size=5 << 30)
    assert f"{UPLOADED} has {5 << 30} bytes" in reason(desk.upload(SPEC, **{CONTEXT_METADATA: UPLOADED}))
