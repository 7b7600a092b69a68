"""What a build that failed late leaves on this machine for its retry: image and context, for their time."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from shared.build import resources
from shared.build.build import Build, ImageDocument, Outcome, State
from shared.build.orders import Order
from shared.build.plan import Context
from shared.errors import InputError
from shared.host.build_folder import BuildFolder
from shared.planning.retries import retry_id
from shared.runtime.builds import LocalBuilds
from shared.runtime.one_machine import LocalBackend
from tests.shared.disks.small_disks import os_tree, rooted
from tests.shared.runtime.test_builds import BOOT, left, recover
from tests.world import values
from tests.world.values import BUILD_ID

DAY = 86_400.0
PACKED = "packed"


@pytest.fixture
def builds(backend: LocalBackend) -> LocalBuilds:
    return LocalBuilds(backend)


@pytest.fixture
def first(backend: LocalBackend, builds: LocalBuilds, folder: BuildFolder, tmp_path: Path) -> Build:
    return fail(backend, builds, folder, tmp_path)


def fail(backend: LocalBackend, builds: LocalBuilds, folder: BuildFolder, tmp_path: Path) -> Build:
    """Return a build whose archive could not be written, since a file is in the place of its folder."""
    (tmp_path / "out").write_text("in the way")
    plan = values.plan(requested=time.time(), retry_for=DAY, verify_steps=values.plan().steps)
    plan = replace(plan, image=replace(plan.image, export_to=str(tmp_path / "out" / "hello.tar.gz")))
    plan = replace(plan, context=Context(str(folder.context), "c" * 64, len(PACKED)))
    ledger = (*resources.of_order(plan, "create_resources", 1), *resources.of_image(plan))
    order = Order(BUILD_ID, 7, "export_image", 1)
    left(backend, State.EXPORTING, plan=plan, outbox=(order,), orders=7, ledger=ledger)
    folder.context.write_text(PACKED)
    rooted(folder.disk(BOOT), os_tree(tmp_path / "tree"))
    [done] = recover(builds)
    assert (done.outcome, done.failed_in, done.state) == (Outcome.FAILED, State.EXPORTING, State.FINISHED), done.reason
    return done


def test_image_and_context_stay(first: Build, backend: LocalBackend, builds: LocalBuilds, folder: BuildFolder) -> None:
    assert [image.name for image in backend.catalogue.list()] == ["hello-20261120"]
    for _ in range(2):
        assert folder.context.read_text() == PACKED
        assert (folder.disks(), folder.machines()) == ([], [])
        builds.tidy()
    assert recover(builds) == []
    assert first.kept_until > time.time() + DAY - 600


def test_a_retry_gets_the_context_before_anything_is_taken_over(
    first: Build, backend: LocalBackend, builds: LocalBuilds, folder: BuildFolder, tmp_path: Path
) -> None:
    other = str(tmp_path / "other" / "hello.tar.gz")
    with builds.building(retry_id(first)) as ours:
        assert ours
        request = builds.retry_request(first, None, other)
        context = request.plan.context
        assert context is not None
        assert (Path(context.uri).read_text(), context.digest) == (PACKED, "c" * 64)
        assert Path(context.uri).parent != folder.path
        assert (request.plan.image.export_to, request.verify_again) == (other, True)
    assert not Path(context.uri).exists()  # it was not asked for in the end
    assert folder.context.exists()
    folder.context.unlink()
    with pytest.raises(InputError, match=f"the context of build {BUILD_ID} is gone"), builds.building(retry_id(first)):
        builds.retry_request(first, None, other)
    assert backend.store.image("local", "hello-20261120") is not None


def test_the_context_goes_with_the_image(
    first: Build, backend: LocalBackend, builds: LocalBuilds, folder: BuildFolder
) -> None:
    known = backend.store.image("local", "hello-20261120")
    assert known is not None
    assert (known.state, known.until) == ("held", first.kept_until)
    assert backend.store.save_image(replace(known, until=time.time()), known)
    builds.tidy()
    assert (backend.catalogue.list(), backend.store.image("local", "hello-20261120")) == ([], None)
    assert not folder.context.exists()


def test_a_retry_that_does_not_verify_names_its_context_and_leaves_the_file_to_the_next(
    first: Build, builds: LocalBuilds, folder: BuildFolder
) -> None:
    published = replace(first, failed_in=State.PUBLISHING)
    with builds.building(retry_id(first)):
        request = builds.retry_request(published, None, str(folder.path / "other.tar.gz"))
        assert request.plan.context is not None
        assert (request.verify_again, request.plan.context.digest) == (False, "c" * 64)
        assert Path(request.plan.context.uri).read_text() == PACKED
        assert Path(request.plan.context.uri).parent != folder.path
    folder.context.unlink()
    with builds.building(retry_id(first)):
        request = builds.retry_request(published, None, str(folder.path / "other.tar.gz"))
        assert request.plan.context is not None
        assert request.plan.context.digest == "c" * 64


def test_an_earlier_image_that_cannot_be_looked_at_keeps_no_build_from_its_end(
    backend: LocalBackend, builds: LocalBuilds, folder: BuildFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It fails as it would without that, and a warning names the image."""
    earlier = values.build(id="hello-ba9876543210", state=State.FINISHED, outcome=Outcome.FAILED)
    held = ImageDocument("local", "hello-1", earlier.id, "c1", state="held", id="sha256-1", until=time.time() + DAY)
    backend.store.create(earlier, values.requested(build_id=earlier.id, plan=earlier.plan), held)
    (backend.home / "images" / "hello-1").mkdir(parents=True)
    done = fail(backend, builds, folder, tmp_path)
    assert done.image is not None
    assert [(record.levelname, "hello-1/image.json: is missing" in record.message) for record in caplog.records] == [
        ("WARNING", True)
    ]
