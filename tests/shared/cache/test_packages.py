"""Files of mirrors are there whole or not at all, are read before they are used, and the oldest go first."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.cache import packages
from shared.cache.packages import PackageCache

URL = "http://mirror.example/pool/a.deb"
LIMIT = 1 << 20


def keep(cache: PackageCache, url: str, data: bytes, sha256: str | None = None) -> None:
    writer = cache.add(len(data))
    assert writer is not None
    writer.write(data)
    writer.keep(url, etag='"1"', last_modified="", content_type="", sha256=sha256)
    writer.close()


def content(cache: PackageCache, url: str) -> bytes | None:
    found = cache.find(url)
    if found is None:
        return None
    with found.file:
        return found.file.read()


def files(home: Path) -> list[Path]:
    return [path for path in (home / "cache/packages").rglob("*") if path.is_file()]


def test_a_file_is_kept_for_the_next_process(tmp_path: Path) -> None:
    with PackageCache(tmp_path) as cache:
        assert content(cache, URL) is None
        keep(cache, URL, b"package")
    with PackageCache(tmp_path) as cache:
        assert content(cache, URL) == b"package"
        [entry] = cache.entries()
    assert (entry.url, entry.bytes, entry.sha256) == (URL, 7, hashlib.sha256(b"package").hexdigest())
    assert {path.parent.name for path in files(tmp_path)} == {"content", "index"}


def test_what_is_not_kept_leaves_nothing(tmp_path: Path) -> None:
    with PackageCache(tmp_path) as cache:
        writer = cache.add(None)
        assert writer is not None
        writer.write(b"half")
        writer.close()
        keep(cache, URL, b"package", sha256="0" * 64)
    assert files(tmp_path) == []


@pytest.mark.parametrize("damage", [b"pACKAGE", b"pack", b""])
def test_a_damaged_file_is_not_used_and_goes(tmp_path: Path, damage: bytes) -> None:
    with PackageCache(tmp_path) as cache:
        keep(cache, URL, b"package")
        [path] = (tmp_path / "cache/packages/content").iterdir()
        path.write_bytes(damage)
        assert content(cache, URL) is None
        assert files(tmp_path) == []
        keep(cache, URL, b"package")
        assert content(cache, URL) == b"package"


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"url": 1}', "[" * 5000, "not JSON"])
def test_a_damaged_index_is_none(tmp_path: Path, damage: str) -> None:
    with PackageCache(tmp_path) as cache:
        keep(cache, URL, b"package")
        [path] = (tmp_path / "cache/packages/index").iterdir()
        path.write_text(damage)
        assert content(cache, URL) is None
        assert cache.entries() == []
        assert cache.prune(0) == 7
    assert files(tmp_path) == []


def test_an_index_that_names_another_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cr3t")
    with PackageCache(tmp_path) as cache:
        keep(cache, URL, b"package")
        [path] = (tmp_path / "cache/packages/index").iterdir()
        document = json.loads(path.read_text())
        path.write_text(json.dumps({**document, "sha256": "../../../../secret".ljust(64, "/")}))
        assert content(cache, URL) is None


def test_the_files_used_longest_ago_go_first(tmp_path: Path) -> None:
    with PackageCache(tmp_path) as cache:
        for number in range(4):
            keep(cache, f"{URL}{number}", bytes([number]) * 100)
            place = tmp_path / "cache/packages/index" / hashlib.sha256(f"{URL}{number}".encode()).hexdigest()
            os.utime(place, (number, number))
        assert content(cache, f"{URL}0") is not None  # which is a use of it
        assert cache.prune(250) == 200
        assert [entry.url for entry in cache.entries()] == [f"{URL}0", f"{URL}3"]
        assert cache.prune(250) == 0


def test_one_content_of_two_urls_is_there_once(tmp_path: Path) -> None:
    with PackageCache(tmp_path) as cache:
        keep(cache, URL, b"package")
        keep(cache, f"{URL}2", b"package")
        assert len(list((tmp_path / "cache/packages/content").iterdir())) == 1
        assert cache.prune(0) == 7
    assert files(tmp_path) == []


def test_the_cache_keeps_to_its_limit_by_itself(tmp_path: Path) -> None:
    with PackageCache(tmp_path, LIMIT) as cache:
        for number in range(40):
            keep(cache, f"{URL}{number}", os.urandom(LIMIT // 16))
        held = sum(entry.bytes for entry in cache.entries())
        assert LIMIT // 2 < held <= LIMIT
        assert cache.add(LIMIT) is None  # one file alone would take too much of it


def test_a_file_is_read_to_its_end_while_another_process_removes_it(tmp_path: Path) -> None:
    with PackageCache(tmp_path) as cache, PackageCache(tmp_path) as other:
        keep(cache, URL, b"package")
        found = cache.find(URL)
        assert found is not None
        with found.file:
            assert other.prune(0) == 7
            assert found.file.read() == b"package"
        assert content(cache, URL) is None


def test_a_full_disk_is_no_error(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], check=True)
    try:
        with PackageCache(small) as cache:
            assert cache.add(None) is None  # less is free than is left free
            writer = packages.PackageWriter(cache, small / "new")
            for _ in range(64):
                writer.write(bytes(1 << 16))
            writer.keep(URL, etag="", last_modified="", content_type="", sha256=None)
            writer.close()
            assert content(cache, URL) is None
        assert files(small) == []
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


BUSY = """import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.shared.cache.test_packages import URL, LIMIT, content, keep
from shared.cache.packages import PackageCache
with PackageCache(Path(sys.argv[1]), LIMIT) as cache:
    print(flush=True)
    while True:
        for number in range(64):
            keep(cache, f"{URL}{number}", bytes([number]) * (LIMIT // 24))
            assert content(cache, f"{URL}{number // 2}") in (None, bytes([number // 2]) * (LIMIT // 24))
"""


def test_killed_and_concurrent_processes_leave_a_whole_cache(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[3])
    for _ in range(4):
        command = [sys.executable, "-c", BUSY, str(tmp_path), root]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
        for process in running:
            assert process.stdout is not None
            process.stdout.readline()
        time.sleep(0.3)
        for process in running:
            assert process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.communicate()
    with PackageCache(tmp_path, LIMIT) as cache:
        assert list((tmp_path / "cache/packages").glob(".scratch-*")) != []  # its own
        for entry in cache.entries():
            data = content(cache, entry.url)
            assert data is None or hashlib.sha256(data).hexdigest() == entry.sha256
    assert sum(path.stat().st_size for path in (tmp_path / "cache/packages/content").iterdir()) <= LIMIT
    assert list((tmp_path / "cache/packages").glob(".scratch-*")) == []
