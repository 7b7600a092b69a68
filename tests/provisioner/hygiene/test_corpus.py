"""Every planted leftover is found, and no harmless file is: each by itself."""

from __future__ import annotations

import pytest

from provisioner.hygiene.hygiene import check
from tests.provisioner.hygiene.corpus import harmless, leftovers
from tests.provisioner.hygiene.memory_files import MemoryFile


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(leftovers()) >= 60
    assert len(harmless()) >= 40


@pytest.mark.parametrize("path", leftovers())
def test_what_builds_leave_is_found(path: str) -> None:
    """The secrets are drawn anew each time: a single one may be found by chance."""
    for seed in range(20):
        data = leftovers(seed)[path]
        [finding] = check([MemoryFile(path, data)], "debian")
        assert finding.path == path
        assert check([MemoryFile(path, data, of_build=False)], "debian") == []


@pytest.mark.parametrize("path", harmless())
def test_what_only_looks_like_it_passes(path: str) -> None:
    for seed in range(20):
        assert list(map(str, check([MemoryFile(path, harmless(seed)[path])], "debian"))) == []
