"""Images that builds of ours have published, each by a build of its own, in the family hello of a world in memory."""

from __future__ import annotations

from dataclasses import replace

from shared.build.build import Build, ImageRecord, Outcome, State
from shared.build.plan import Deprecation, ImagePlan, SourceImage
from shared.build.resources import image_document
from shared.names import BUILD_LABEL, SOURCE_LABEL
from shared.ports import Image, Store
from tests.world import values

FAMILY = "hello"


def build_of(name: str, source: str = "debian-12", **changes: object) -> Build:
    """The finished build of an image, which deprecates the older ones of its family."""
    build_id = f"{name}-0123456789ab"
    labels = {BUILD_LABEL: build_id, SOURCE_LABEL: source}
    plan = values.plan(
        build_id=build_id,
        source=SourceImage("local", source, f"sha256-{source}"),
        image=ImagePlan("local", name, family=FAMILY, labels=labels, deprecate_old=Deprecation()),
        verify_steps=values.plan().steps,
    )
    made = {"state": State.FINISHED, "outcome": Outcome.SUCCEEDED, "committed": values.NOON}
    record = ImageRecord("local", name, f"sha256-{name}")
    build: Build = replace(values.build(id=build_id, plan=plan, image=record), **{**made, **changes})  # type: ignore[arg-type]  # by name
    return build


def image_of(build: Build, age: float = 0.0, **changes: object) -> Image:
    """The image of a build, as old as that, in seconds."""
    assert build.plan is not None
    assert build.image is not None
    plan = build.plan.image
    made = Image("local", plan.name, build.image.id, values.NOON - age, family=plan.family, labels=plan.labels)
    return replace(made, **changes)  # type: ignore[arg-type]  # by name


def add_build(store: Store, build: Build) -> None:
    """Write a build, and what the store knows of its image."""
    store.create(build, values.requested(build_id=build.id, plan=build.plan), image_document(build))
