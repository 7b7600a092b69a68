"""What `goldsmith cache` counts and removes of the files of package mirrors."""

from __future__ import annotations

from pathlib import Path

from shared.cache.packages import PackageCache
from shared.runtime.cache import BuildCache
from tests.shared.cache.test_packages import URL, keep


def test_packages_are_counted_by_content_and_removed(tmp_path: Path) -> None:
    with PackageCache(tmp_path) as packages:
        keep(packages, URL, b"package")
        keep(packages, f"{URL}2", b"package")
        keep(packages, f"{URL}3", b"another one")
    cache = BuildCache(tmp_path)
    assert cache.packages() == (2, 18)
    assert cache.prune_packages(18) == 0
    assert cache.prune_packages(0) == 18
    assert cache.packages() == (0, 0)


def test_a_home_without_packages_is_left_as_it_is(tmp_path: Path) -> None:
    cache = BuildCache(tmp_path)
    assert (cache.packages(), cache.prune_packages(0)) == ((0, 0), 0)
    assert not (tmp_path / "cache/packages").exists()
