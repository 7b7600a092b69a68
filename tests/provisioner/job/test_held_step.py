"""What the shell of a failed step is given: the step's variables, without its secrets unless they are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.frames import OUTPUT, BadFrame, FrameReader, frame
from provisioner.job.hold import HeldStep
from provisioner.job.working_folder import JobFolders
from provisioner.protocol import Step

LENT = {"http_proxy": "http://me:pw@proxy:3128", "PATH": "/shims:/bin", "SOURCE_DATE_EPOCH": "1"}
OWN = {"COLOUR": "blue", "DB_PASSWORD": "x", "API_KEY2": "x", "PUBLIC_TOKEN": "x", "WEBHOOK": "ghp_" + "a1B2" * 9}


def held(tmp_path: Path) -> HeldStep:
    step = Step("breaks", "run-script", {"script": "breaks.sh", "env": OWN})
    return HeldStep(step, "it failed", JobFolders(str(tmp_path), "/", str(tmp_path)), "/context", LENT, "", [b"pw"])


def test_secrets_are_left_out_by_name_and_by_value(tmp_path: Path) -> None:
    environment, left_out = held(tmp_path).environment(secrets=False)
    assert left_out == ["API_KEY2", "DB_PASSWORD", "WEBHOOK", "http_proxy"]
    assert environment == {
        "PATH": "/shims:/bin",
        "SOURCE_DATE_EPOCH": "1",
        "COLOUR": "blue",
        "PUBLIC_TOKEN": "x",
    }


def test_secrets_are_there_when_they_are_asked_for(tmp_path: Path) -> None:
    assert held(tmp_path).environment(secrets=True) == ({**LENT, **OWN}, [])
    assert held(tmp_path).script() == "breaks.sh"


def test_frames_are_whole_however_they_arrive() -> None:
    reader, data = FrameReader(), frame(OUTPUT, b"one") + frame(OUTPUT) + frame(OUTPUT, b"x" * 70_000)
    found = [each for at in range(0, len(data), 1000) for each in reader.feed(data[at : at + 1000])]
    assert found == [(OUTPUT, b"one"), (OUTPUT, b""), (OUTPUT, b"x" * 70_000)]


def test_a_frame_beyond_all_measure_is_refused() -> None:
    with pytest.raises(BadFrame):
        FrameReader().feed(b"O\xff\xff\xff\xff")
