"""Bad input, uploaded: a finished build that failed, with the words of `goldsmith validate`, and nothing made.

All of it is uploaded at once, then looked at case by case. Where the cases are shared out among processes, one may
upload it more than once: each time into a folder of its own.
"""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.cloud.cloud import Cloud
from shared.build.build import Build
from shared.topology import SUBSCRIPTIONS
from tests.cloud.person import Person

GOOD = """\
name: {name}
source: {{project: local, family: debian-12}}
context: {context}
steps:
  - name: greet
    action: run-script
    inputs: {{script: greet.sh}}
"""

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)

SPECS: dict[str, str] = {
    "not-yaml": "name: [hello\n",
    "large": "description: " + "x" * (50 << 20) + "\n",
    "bomb": BOMB,
    "wrong-types": GOOD.format(name="[x]", context="good.tar"),
    "unknown-keys": GOOD.format(name="unknown-keys", context="good.tar") + "ouput: {}\n",
    "no-context": GOOD.format(name="no-context", context="missing"),
    "no-archive": GOOD.format(name="no-archive", context="no-archive.tar"),
    "leads-out": GOOD.format(name="leads-out", context="leads-out.tar"),
    "absolute": GOOD.format(name="absolute", context="absolute.tar"),
    "device": GOOD.format(name="device", context="device.tar"),
}
"""Those that `goldsmith validate` refuses too."""

ONLY_THERE: dict[str, tuple[str, str]] = {
    "no-image": (
        GOOD.format(name="no-image", context="good.tar").replace("family: debian-12", "image: debian-99"),
        "source.image: project local has no image debian-99; did you mean debian-12-base?",
    ),
    "no-zone": (
        GOOD.format(name="no-zone", context="good.tar") + "build: {zones: [us-nowhere1-a]}\n",
        "us-nowhere1-a",
    ),
}
"""Those that only the project can refuse, and what is said of them."""


def archive(*members: tuple[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, kind in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.size = 3 if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"ls\n") if info.size else None)
    return packed.getvalue()


ARCHIVES = {
    "good.tar": archive(("greet.sh", tarfile.REGTYPE)),
    "no-archive.tar": b"this is no archive\n" * 100,
    "leads-out.tar": archive(("../greet.sh", tarfile.REGTYPE)),
    "absolute.tar": archive(("/etc/greet.sh", tarfile.REGTYPE)),
    "device.tar": archive(("greet.sh", tarfile.CHRTYPE)),
}

Uploaded = Callable[[str], Any]


@pytest.fixture(scope="module")
def uploaded(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Person, Path]]:
    """Upload everything; yield the person and the folder of the specs, which has one name here and in the bucket."""
    folder = tmp_path_factory.mktemp("bad-input")
    specs = folder / folder.name
    specs.mkdir()
    for name, data in ARCHIVES.items():
        (specs / name).write_bytes(data)
    for name, text in {**SPECS, **{name: text for name, (text, _said) in ONLY_THERE.items()}}.items():
        (specs / f"{name}.yaml").write_text(text)
    person = Person(folder, cloud.environment(folder / "home"), cloud.project, cloud.bucket, cloud.compute.url)
    there = f"gs://{cloud.bucket}/specs/{specs.name}/"
    person.run("gsutil", "-q", "cp", *sorted(specs.glob("*.tar")), there)
    person.run("gsutil", "-q", "cp", *sorted(specs.glob("*.yaml")), there)
    yield person, specs
    assert person.resources("instances") == person.resources("disks") == []


def _finished(person: Person, build_id: str) -> Build:
    """Wait until a build is finished: the last fact may come after its result."""
    until = time.monotonic() + 300
    while not (build := next(each for each in person.builds() if each.id == build_id)).finished:
        assert time.monotonic() < until, build
        time.sleep(0.1)
    return build


def assert_nothing_made(person: Person, prefix: str, told: Any) -> None:
    assert (told["outcome"], told["image"], told["left"], told["steps"]) == ("failed", None, [], [])
    assert _finished(person, told["build"]).reason == told["reason"]
    assert len(person.results(prefix)) == 1


@pytest.mark.parametrize("name", SPECS)
def test_it_is_told_in_the_words_of_validate(uploaded: tuple[Person, Path], name: str) -> None:
    person, specs = uploaded
    prefix = f"{specs.name}/{name}-"
    told = person.result(prefix)
    goldsmith = person.checkout / ".venv" / "bin" / "goldsmith"
    told_here = person.run("env", "-C", specs, goldsmith, "validate", specs / f"{name}.yaml", status=2)
    here = told_here.removeprefix("goldsmith: ").strip()
    assert told["reason"] == here.replace(f"{specs}/", f"gs://{person.bucket}/specs/{specs.name}/")
    assert_nothing_made(person, prefix, told)


@pytest.mark.parametrize("name", ONLY_THERE)
def test_what_only_the_project_knows_is_told_by_its_key(uploaded: tuple[Person, Path], name: str) -> None:
    person, specs = uploaded
    prefix = f"{specs.name}/{name}-"
    told = person.result(prefix)
    assert ONLY_THERE[name][1] in told["reason"]
    assert_nothing_made(person, prefix, told)


def test_a_missing_permission_is_named(person: Person, cloud: Cloud) -> None:
    folder = person.spec("denied", replace={"family: hello": "family: denied"})
    cloud.compute.deny("compute.instances.create")
    try:
        person.upload(folder)
        told = person.result("denied/build-")
    finally:
        cloud.compute.faults.clear()
    assert told["outcome"] == "failed"
    assert "compute.instances.create" in told["reason"]
    assert told["left"] == []


def test_poison_is_dropped_and_not_delivered_again(person: Person, cloud: Cloud) -> None:
    """No JSON, an unknown kind, an unknown build: acknowledged once, and the next message is handled."""
    cloud.router.wait_until_idle()  # builds of other tests have ended, and their last messages may yet be on their way
    before = cloud.router.deliveries
    topics = ("build-requests", "build-events", "build-reports")
    for topic in topics:
        for message in ("no JSON", "{}", '{"version": 1, "kind": "Odd", "build_id": "unknown"}'):
            person.run("gcloud", "pubsub", "topics", "publish", topic, f"--message={message}")
    order = '{"version": 1, "build_id": "unknown", "number": 1, "kind": "clean_up", "attempt": 1}'
    person.run(
        "gcloud", "pubsub", "topics", "publish", "build-orders", f"--message={order}", "--attribute=order=clean_up"
    )
    cloud.router.wait_until_idle()
    assert cloud.router.deliveries - before == 1 + 3 * sum(each.topic in topics for each in SUBSCRIPTIONS)
