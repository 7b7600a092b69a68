"""The images of this machine: the sources of specs, files among them, and images that outlive their disks."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.build.plan import ImagePlan, Plan
from shared.host.build_folder import BuildFolder
from shared.images.file import source_name
from shared.ports import ImageRequest
from shared.runtime.images import LocalImages
from shared.runtime.one_machine import LocalBackend, open_one_machine
from shared.spec.model import Source
from tests.shared.disks.small_disks import left_clean, os_tree, rooted
from tests.world import values
from tests.world.values import BUILD_ID

BOOT = f"gs-{BUILD_ID}-a1-boot"


def sparse(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(4 << 20)
    return path


def test_file_beside_the_spec_joins_the_catalogue_once(backend: LocalBackend, tmp_path: Path) -> None:
    rooted(tmp_path / "small.raw", os_tree(tmp_path / "tree"))
    source = Source.model_validate({"file": "small.raw"})
    first = LocalImages(backend).resolve(source, tmp_path)
    assert LocalImages(backend).resolve(source, tmp_path) == first
    assert [image.name for image in backend.catalogue.list()] == [first.name]
    assert LocalImages(backend).describe(first.name).system == "Debian GNU/Linux 12 (bookworm)"


def test_file_that_another_build_has_just_brought_in_is_that_image(home: Path, tmp_path: Path) -> None:
    file = rooted(tmp_path / "small.raw", os_tree(tmp_path / "tree"))

    def overtake(what: str, done: int, total: int) -> None:
        if what.startswith("looking"):
            others.catalogue.add(file, source_name(file))

    with open_one_machine(home) as others, open_one_machine(home, overtake) as backend:
        found = LocalImages(backend).resolve(Source.model_validate({"file": "small.raw"}), tmp_path)
        assert [image.id for image in others.catalogue.list()] == [found.id]


def test_source_by_name_is_looked_up(backend: LocalBackend, tmp_path: Path) -> None:
    backend.catalogue.add(sparse(tmp_path / "x.raw"), "one", family="f")
    for keys in ({"image": "one"}, {"family": "f"}):
        assert LocalImages(backend).resolve(Source.model_validate({"project": "local", **keys}), tmp_path).name == "one"


@pytest.mark.parametrize("keys", [{"image": "cos-stable-109-1-2-3"}, {"family": "cos-stable"}, {"milestone": 109}])
def test_imported_images_of_container_optimized_os_are_found(
    backend: LocalBackend, tmp_path: Path, keys: dict[str, object]
) -> None:
    """start-image-build -image-name, -image-milestone, -image-family, in the catalogue of one machine."""
    backend.catalogue.add(sparse(tmp_path / "x.raw"), "cos-stable-109-1-2-3", family="cos-stable")
    source = Source.model_validate({"project": "cos-cloud", **keys})
    assert LocalImages(backend).resolve(source, tmp_path).name == "cos-stable-109-1-2-3"


def test_image_of_a_build_outlives_its_disk(backend: LocalBackend, folder: BuildFolder) -> None:
    image = ImagePlan("local", "kept")
    plan: Plan = values.plan(image=image)
    size = left_clean(folder.disk(BOOT)).stat().st_size
    request = ImageRequest("local", image.name, BOOT, "local", "local", "", {}, (), plan.source.architecture)
    backend.compute.create_image(request)
    backend.compute.delete("disk", BOOT, "local", "")
    assert backend.catalogue.disk("kept").stat().st_size == size
    assert folder.disks() == []
