"""What a root has to hold before any step of the spec runs in it."""

from __future__ import annotations

import pytest

from shared.build.plan import OriginKind, OriginPlan, SourceImage
from shared.errors import InputError
from shared.images.contents import ImageContents
from shared.maker.make_root import refuse_unfit

WHOLE = {"kernel": "6.1.0-1-cloud-amd64", "python3": True, "cloud_init": False, "guest_agent": False}


def contents(**root: object) -> ImageContents:
    return ImageContents("gpt", (), bios=True, efi=True, **{**WHOLE, **root})  # type: ignore[arg-type]


def origin(kind: OriginKind, *, verified: bool = True) -> OriginPlan:
    return OriginPlan(kind, SourceImage("", "", ""), 10, verified=verified)


@pytest.mark.parametrize("there", ["cloud_init", "guest_agent"])
def test_what_can_start_the_steps_of_verify_is_taken(there: str) -> None:
    refuse_unfit(contents(**{there: True}), origin("rootfs"))


@pytest.mark.parametrize(
    ("kind", "root", "why"),
    [
        (
            "rootfs",
            {"kernel": None},
            "source.rootfs makes has no kernel; add packages with a kernel, an init system, cl",
        ),
        (
            "rootfs",
            {},
            "source.rootfs makes neither cloud-init nor Google's guest agent can start its steps; add packages",
        ),
        ("oci", {"cloud_init": None}, "source.oci makes neither cloud-init nor"),
        ("bootstrap", {}, "can start its steps; write variant: cloud, or add packages with .*, or leave verify out"),
        ("elements", {"python3": False}, "source.elements: what it makes has no python3"),
    ],
)
def test_what_verify_could_not_run_in_is_refused_before_the_steps(
    kind: OriginKind, root: dict[str, object], why: str
) -> None:
    with pytest.raises(InputError, match=why):
        refuse_unfit(contents(**root), origin(kind))


def test_steps_alone_need_neither_kernel_nor_cloud_init() -> None:
    refuse_unfit(contents(kernel=None), origin("rootfs", verified=False))
    refuse_unfit(contents(kernel=None), origin("elements"))
