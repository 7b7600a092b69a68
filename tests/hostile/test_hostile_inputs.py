"""Whatever is made to exhaust its reader ends in a clear error of ours, or the right answer, with bounded memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.hostile.inputs import ATTACKS, MB, OURS, listed, listed_packages, on_vm
from tests.hostile.soak import SOUND, damaged

MOST_MEMORY = 512  # MB


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_ends_in_words_and_within_its_memory(tmp_path: Path, name: str) -> None:
    attack, path = ATTACKS[name], tmp_path / "input"
    attack.make(path, 2 * MB)
    command = [sys.executable, "-m", "tests.hostile.inputs", name, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ended = json.loads(done.stdout)
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
