"""Whatever is made to exhaust its reader ends in a clear error of ours, or the right answer, with bounded memory."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.hostile.inputs import ATTACKS, MB, OURS, listed, listed_packages, on_vm
from tests.hostile.soak import SOUND, damaged

MOST_MEMORY = 512  # MB


@pytest.fixture(scope="module")
def reader() -> Iterator[subprocess.Popen[str]]:
    """A process that starts one for each input."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "tests.hostile.inputs"]
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_ends_in_words_and_within_its_memory(
    reader: subprocess.Popen[str], tmp_path: Path, name: str
) -> None:
    attack, path = ATTACKS[name], tmp_path / "input"
    attack.make(path, 2 * MB)
    assert reader.stdin is not None
    assert reader.stdout is not None
    reader.stdin.write(f"{name}\t{path}\n")
    reader.stdin.flush()
    ended = json.loads(reader.stdout.readline())
    assert ended["peak"] < MOST_MEMORY, ended
    if attack.says:
        assert ended["kind"] in OURS, ended
        assert attack.says in ended["text"], ended
        # What is wrong inside is named by its own path there, and the caller knows the file.
        assert str(path) in ended["text"] or attack.read in (listed, listed_packages, on_vm), ended
    else:
        assert not ended["kind"], ended


@pytest.mark.slow
@pytest.mark.parametrize("name", SOUND)
def test_damage_ends_in_words(name: str) -> None:
    """`make soak` does so with more seeds."""
    assert damaged(name, 10).wrong == ""
