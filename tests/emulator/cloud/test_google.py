"""Google's emulators: found, started, empty, and gone; a clear word where they are not installed."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from emulator.cloud.google import FIRESTORE_JAR, PACKAGES, GoogleEmulators, sdk_folder
from shared.errors import EnvironmentFault


def test_both_answer_and_end(tmp_path: Path) -> None:
    with GoogleEmulators(tmp_path) as emulators:
        assert sorted(emulators.environment()) == ["FIRESTORE_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST"]
        for host in emulators.environment().values():
            with urllib.request.urlopen(f"http://{host}/", timeout=10) as answer:
                assert answer.status == 200
        put = urllib.request.Request(
            f"http://{emulators.environment()['PUBSUB_EMULATOR_HOST']}/v1/projects/p/topics/abc"
        )
        put.method = "PUT"
        with urllib.request.urlopen(put, timeout=10) as answer:
            assert b"projects/p/topics/abc" in answer.read()
    for host in emulators.environment().values():
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(f"http://{host}/", timeout=1)
    assert {path.name for path in tmp_path.iterdir()} == {"pubsub.log", "firestore.log"}


def test_the_sdk_is_found_by_its_variable_and_by_path(tmp_path: Path) -> None:
    assert sdk_folder({"CLOUDSDK_ROOT": str(tmp_path)}) == tmp_path
    program = tmp_path / "sdk" / "bin" / "gcloud"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gcloud").symlink_to(program)
    assert sdk_folder({"PATH": str(tmp_path / "bin")}) == tmp_path / "sdk"


def test_no_sdk_is_told_with_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault) as caught:
        sdk_folder({"PATH": str(tmp_path)})
    assert all(package in str(caught.value) for package in PACKAGES.values())


def test_an_sdk_without_the_emulators_is_told_and_nothing_runs(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="apt-get install google-cloud-cli-pubsub-emulator"):
        GoogleEmulators(tmp_path, sdk=tmp_path).start()


def test_an_emulator_that_cannot_start_is_told_with_its_log(tmp_path: Path) -> None:
    broken = tmp_path / "sdk" / FIRESTORE_JAR
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"not a jar")
    pubsub = tmp_path / "sdk" / "platform" / "pubsub-emulator" / "lib" / "cloud-pubsub-emulator-1-all.jar"
    pubsub.parent.mkdir(parents=True)
    pubsub.write_bytes(b"not a jar")
    with pytest.raises(EnvironmentFault, match=r"(?s)Google's pubsub emulator ended with status 1 .*corrupt jarfile"):
        GoogleEmulators(tmp_path / "logs", sdk=tmp_path / "sdk").start()
