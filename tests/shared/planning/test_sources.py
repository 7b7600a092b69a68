"""Which image a build starts from, of those that a project has; and what is said when there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.errors import EnvironmentFault, InputError
from shared.planning.sources import as_source, in_catalogue, newest, resolve_maker, resolve_source
from shared.ports import Image
from shared.spec.model import Source
from tests.world import values
from tests.world.fakes import FakeClock, FakeCompute
from tests.world.memory_bucket import MemoryBucket


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
    return resolve_source(source(**keys), compute(*images)).name


def test_all_that_a_plan_needs_is_taken_over() -> None:
    one = image("one", family="f", architecture="arm64", disk_size_gb=7, labels={"a": "b"}, licenses=("x",))
    made = resolve_source(source(image="one"), compute(one))
    assert made == as_source(one)
    fields = (made.project, made.name, made.id, made.family, made.architecture, made.disk_size_gb)
    assert fields == ("local", "one", "id-one", "f", "arm64", 7)
    assert (made.labels, made.licenses) == ({"a": "b"}, ("x",))


def test_named_image_may_be_deprecated() -> None:
    """start-image-build -image-name."""
    assert found({"image": "one"}, image("one", deprecated="DEPRECATED")) == "one"


def test_family_gives_its_newest_active_image() -> None:
    """start-image-build -image-family."""
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


MILESTONE: dict[str, object] = {"project": "cos-cloud", "milestone": 117}
OLDER = [
    image("cos-stable-117-18613-9-5"),
    image("cos-arm64-stable-117-18613-9-5", architecture="arm64"),
    image("cos-stable-118-99999-0-0"),
    image("cos-stable-11-17999-0-0"),
    image("cos-stable-117-99999-0-0", deprecated="OBSOLETE"),
    image("cos-beta-117-99999-0-1", deprecated="DELETED"),
    image("cos-stable-117-lts"),
    image("x-cos-stable-117-99999-0-0"),
    image("cos-117-18613-75-37"),  # of long-term support
]


@pytest.mark.parametrize(
    "newest",
    [
        image("cos-stable-117-18613-75-37"),
        image("cos-beta-117-18613-10-0"),
        image("cos-dev-117-18614-0-0"),
        image("cos-stable-117-18613-75-37", deprecated="DEPRECATED"),
    ],
    ids=lambda image: f"{image.name}-{image.deprecated}",
)
def test_milestone_gives_its_newest_build_by_number(newest: Image) -> None:
    """start-image-build -image-milestone: PREFIX-CHANNEL-MILESTONE-A-B-C with the largest (A, B, C), as numbers."""
    assert found(MILESTONE, *OLDER, newest) == found(MILESTONE, newest, *OLDER) == newest.name


@pytest.mark.parametrize(("arch", "arm"), [("x86_64", ""), ("arm64", "arm64-")])
def test_images_of_long_term_support_are_a_familys(arch: str, arm: str) -> None:
    """start-image-build -image-milestone: an image without a channel in its name is none of them."""
    with pytest.raises(InputError, match=rf"it has 118; those of .* are a family's: write family: cos-{arm}117-lts$"):
        found({**MILESTONE, "arch": arch}, image(f"cos-{arm}117-1-2-3"), image(f"cos-{arm}stable-118-1-2-3"))


def test_milestone_is_of_one_architecture() -> None:
    name = "cos-arm64-stable-117-99999-0-0"
    arm = image(name)  # the name decides: old images say nothing of their architecture
    assert found(MILESTONE, *OLDER, arm) == "cos-stable-117-18613-9-5"
    assert found({**MILESTONE, "arch": "arm64"}, *OLDER, arm) == name


@pytest.mark.parametrize(
    ("project", "name", "what"),
    [
        ("cos-cloud", "cos-stable-80-12739-104-0", "Container-Optimized OS before milestone 81 has no Python"),
        ("cos-cloud", "cos-77-12371-1109-0", "Container-Optimized OS before milestone 81 has no Python"),
        ("fedora-coreos-cloud", "fedora-coreos-40-20240519-3-0-gcp-x86-64", "Fedora CoreOS has no Python"),
        (
            "suse-cloud",
            "sles-12-sp5-v20240808-x86-64",
            "SUSE Linux Enterprise before 15 has Python 3.4 or older",
        ),
        ("ubuntu-os-cloud", "ubuntu-minimal-1604-xenial-v20210430", "Ubuntu before 18.04 has Python 3.5 or older"),
        ("centos-cloud", "centos-7-v20240611", "CentOS before 8 has Python 2"),
        ("windows-cloud", "windows-server-2022-dc-v20240808", "Windows is no Linux"),
    ],
)
def test_an_image_known_to_have_no_python_is_refused(project: str, name: str, what: str) -> None:
    one = image(name, project=project, family="f")
    for keys in ({"image": name}, {"family": "f"}):
        with pytest.raises(InputError) as caught:
            found({"project": project, **keys}, one)
        assert str(caught.value) == (
            f"source.{next(iter(keys))}: {project}/{name} cannot run a build: {what}, and the provisioner needs Python "
            "3.6 or later; name a newer image, or one of your own that has python3"
        )


def test_a_milestone_without_python_is_refused() -> None:
    with pytest.raises(InputError, match=r"^source\.milestone: cos-cloud/cos-stable-80-12739-104-0 cannot run a build"):
        found({"project": "cos-cloud", "milestone": 80}, image("cos-stable-80-12739-104-0", project="cos-cloud"))


@pytest.mark.parametrize(
    ("project", "name"),
    [
        ("cos-cloud", "cos-stable-121-18867-90-4"),
        ("cos-cloud", "cos-arm64-stable-121-18867-90-4"),
        ("cos-cloud", "cos-81-12871-1160-0"),
        ("debian-cloud", "debian-10-buster-v20240417"),
        ("rocky-linux-cloud", "rocky-linux-8-v20241009"),
        ("rhel-cloud", "rhel-8-v20241009"),
        ("suse-cloud", "sles-15-sp6-v20241001-x86-64"),
        ("ubuntu-os-cloud", "ubuntu-1804-bionic-v20240116a"),
        ("ubuntu-os-cloud", "ubuntu-minimal-2404-noble-amd64-v20241001"),
        ("my-project", "centos-7-with-python"),
    ],
)
def test_an_image_with_python_is_taken(project: str, name: str) -> None:
    assert found({"project": project, "image": name}, image(name, project=project)) == name


def test_milestone_of_the_local_catalogue() -> None:
    assert found({"milestone": 117}, *OLDER) == "cos-stable-117-18613-9-5"
    with pytest.raises(InputError, match=r"it has 11, 117, 118; see: goldsmith images bootstrap, goldsmith images imp"):
        found({"milestone": 119}, *OLDER)


def test_catalogue_stands_for_cos_cloud_and_no_other_project() -> None:
    assert in_catalogue(source(**MILESTONE)) == source(milestone=117)
    for other in (source(project="debian-cloud", family="debian-12"), Source.model_validate({"file": "x.raw"})):
        assert in_catalogue(other) == other


def test_image_that_is_not_there_is_named_with_what_is() -> None:
    with pytest.raises(InputError) as caught:
        found({"image": "x"}, image("b"), image("a"))
    assert str(caught.value) == (
        "source.image: project local has no image x; it has a, b; "
        "see: goldsmith images bootstrap, goldsmith images import"
    )
    with pytest.raises(InputError, match=r"project cos-cloud has no image x; it has no images$"):
        found({"project": "cos-cloud", "image": "x"})
    with pytest.raises(InputError, match=r"has no image f; that is a family: write family: f$"):
        found({"image": "f"}, image("a", family="f"))


def test_family_that_is_not_there_is_named_with_what_is_and_a_remedy() -> None:
    with pytest.raises(InputError) as caught:
        found({"family": "debian-12"}, image("a", family="f"), image("b", family="g", deprecated="DEPRECATED"))
    assert str(caught.value) == (
        "source.family: project local has no active image in family debian-12; it has f; "
        "see: goldsmith images bootstrap, goldsmith images import"
    )
    with pytest.raises(InputError, match=r"it has no families$"):
        resolve_source(source(project="my-project", family="f"), compute())


def test_milestone_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(InputError) as caught:
        found({**MILESTONE, "milestone": 119}, *OLDER)
    assert str(caught.value) == (
        "source.milestone: project cos-cloud has no x86_64 image on milestone 119; it has 11, 117, 118"
    )
    with pytest.raises(InputError) as caught:
        found(MILESTONE, image("cos-arm64-stable-117-1-2-3"))
    assert str(caught.value) == (
        "source.milestone: project cos-cloud has no x86_64 image on milestone 117; it has none with one; "
        "write arch: arm64 for the one that is there"
    )


def test_file_is_only_for_one_machine() -> None:
    with pytest.raises(InputError, match=r"source\.file: .* goldsmith build"):
        resolve_source(Source.model_validate({"file": "x.raw"}), compute())


FAMILY, NAMED = "projects/my-project/global/images/family/f", "projects/my-project/global/images/one"


def test_the_maker_image_is_the_newest_of_its_family_or_the_named_one() -> None:
    old, new = image("one", family="f", created=1.0), image("two", family="f", created=2.0)
    other = image("three", family="g", created=3.0)
    assert resolve_maker(FAMILY, compute(old, new, other)).name == "two"
    assert resolve_maker(FAMILY, compute(old, replace(new, deprecated="DEPRECATED"), other)).name == "one"
    assert resolve_maker(NAMED, compute(old, new, other)).name == "one"


@pytest.mark.parametrize("path", [FAMILY, NAMED])
def test_a_maker_image_that_no_root_can_be_made_with_is_the_deployment_s_fault(path: str) -> None:
    with pytest.raises(EnvironmentFault, match=r"maker_image of this deployment is .*not there"):
        resolve_maker(path, compute())
    with pytest.raises(EnvironmentFault, match="is for arm64; its VMs are for x86_64"):
        resolve_maker(path, compute(image("one", family="f", architecture="arm64")))
