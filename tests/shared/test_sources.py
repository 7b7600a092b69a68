"""Which image a build starts from, of those that a project has; and what is said when there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.errors import InputError
from shared.ports import Image
from shared.sources import as_source, newest, resolve
from shared.spec import Source
from tests import values
from tests.fakes import FakeClock, FakeCompute, MemoryBucket


def image(name: str, age: float = 0, **changes: object) -> Image:
    made = Image("local", name, f"id-{name}", values.NOON - age)
    return replace(made, **changes)  # type: ignore[arg-type]  # fields of Image, by name


def compute(*images: Image) -> FakeCompute:
    made = FakeCompute(FakeClock(), MemoryBucket())
    made.all_images = {image.name: image for image in images}
    return made


def source(**keys: object) -> Source:
    return Source.model_validate({"project": "local", **keys})


def found(keys: dict[str, object], *images: Image) -> str:
    return resolve(source(**keys), compute(*images)).name


def test_all_that_a_plan_needs_is_taken_over() -> None:
    one = image("one", family="f", architecture="arm64", disk_size_gb=7, labels={"a": "b"}, licenses=("x",))
    made = resolve(source(image="one"), compute(one))
    assert made == as_source(one)
    fields = (made.project, made.name, made.id, made.family, made.architecture, made.disk_size_gb)
    assert fields == ("local", "one", "id-one", "f", "arm64", 7)
    assert (made.labels, made.licenses) == ({"a": "b"}, ("x",))


def test_named_image_may_be_deprecated() -> None:
    assert found({"image": "one"}, image("one", deprecated="DEPRECATED")) == "one"


def test_family_gives_its_newest_active_image() -> None:
    images = (
        image("old", 20, family="f"),
        image("new", 10, family="f"),
        image("newest", 0, family="f", deprecated="DEPRECATED"),
        image("other", 0, family="g"),
    )
    assert found({"family": "f"}, *images) == "new"


def test_of_two_images_of_one_second_the_name_decides() -> None:
    assert newest([image("b"), image("a")]) == newest([image("a"), image("b")]) == image("b")
    assert newest([]) is None


@pytest.mark.parametrize(
    "names",
    [
        ["cos-stable-117-18613-9-5", "cos-stable-117-18613-75-4", "cos-stable-117-18613-75-37"],
        ["cos-117-18613-9-5", "cos-117-18613-75-37"],
        ["cos-arm64-stable-117-9-99-99", "cos-arm64-stable-117-18613-75-37"],
    ],
)
def test_milestone_gives_its_newest_build_by_number(names: list[str]) -> None:
    wrong = [
        image("cos-stable-118-99999-0-0"),
        image("cos-stable-11-17999-0-0"),
        image("cos-stable-117-99999-0-0", deprecated="OBSOLETE"),
        image("cos-stable-117-lts"),
        image("x-cos-stable-117-99999-0-0"),
    ]
    images = [image(name, age) for age, name in enumerate(reversed(names))]
    assert found({"project": "cos-cloud", "milestone": 117}, *wrong, *images) == names[-1]


def test_image_that_is_not_there_is_named_with_what_is() -> None:
    with pytest.raises(InputError) as caught:
        found({"image": "x"}, image("b"), image("a"))
    assert str(caught.value) == "source.image: project local has no image x; it has a, b"
    with pytest.raises(InputError, match="it has no images"):
        found({"image": "x"})


def test_family_that_is_not_there_is_named_with_what_is_and_a_remedy() -> None:
    with pytest.raises(InputError) as caught:
        found({"family": "debian-12"}, image("a", family="f"), image("b", family="g", deprecated="DEPRECATED"))
    assert str(caught.value) == (
        "source.family: project local has no active image in family debian-12; it has f; "
        "see: goldsmith images bootstrap, goldsmith images import"
    )
    with pytest.raises(InputError, match=r"it has no families$"):
        resolve(source(project="my-project", family="f"), compute())


def test_milestone_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"source\.milestone: project cos-cloud has no image on milestone 117"):
        found({"project": "cos-cloud", "milestone": 117}, image("cos-stable-118-1-2-3"))


def test_file_is_only_for_one_machine() -> None:
    with pytest.raises(InputError, match=r"source\.file: .* goldsmith build"):
        resolve(Source.model_validate({"file": "x.raw"}), compute())
