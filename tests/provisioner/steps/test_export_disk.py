"""export-disk: a disk in each format, as the object that Cloud Storage's emulator has."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import subprocess
import tarfile
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from provisioner.protocol import ExportDisk, decode_exported
from provisioner.steps.export_disk import act
from provisioner.steps.step_context import StepContext, StepError
from provisioner.system.output import StepConsole, StepOutput
from tests.provisioner.system.test_upload import session

SIZE = 48 << 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine's files, with the disk as udev names it."""
    root = tmp_path / "root"
    disk = tmp_path / "disk.raw"
    (root / "dev/disk/by-id").mkdir(parents=True)
    (root / "var/tmp").mkdir(parents=True)
    for name in ("qemu-img",):
        (root / "usr/bin").mkdir(parents=True)
        (root / "usr/bin" / name).symlink_to(f"/usr/bin/{name}")
    with disk.open("wb") as file:
        file.write(b"boot" * 1000)
        file.seek(20 << 20)
        file.write(random.Random(1).randbytes(3 << 20))
        file.truncate(SIZE)
    (root / "dev/disk/by-id/google-export").symlink_to(disk)
    return root


def context(root: Path, deadline: float = 100.0) -> StepContext:
    output = StepOutput("write", str(root / "log"), StepConsole("-"))
    return StepContext(str(root), str(root), output, time.monotonic() + deadline)


def written(root: Path, name: str, bucket: Any) -> tuple[Any, bytes]:
    step = context(root)
    assert act(ExportDisk(name, session(bucket)), step) == 0
    told = decode_exported(step.note)
    data: bytes = bucket.get_blob("disk.tar.gz").download_as_bytes(raw_download=True)
    assert (told.format, told.bytes, told.sha256) == (name, len(data), hashlib.sha256(data).hexdigest())
    assert told.disk_bytes == SIZE
    return told, data


def test_an_archive_for_compute_engine(root: Path, bucket: Any) -> None:
    told, data = written(root, "gce", bucket)
    disk = (root / "dev/disk/by-id/google-export").read_bytes()
    unpacked = gzip.decompress(data)
    assert told.tar_sha256 == hashlib.sha256(unpacked).hexdigest()
    assert (int(told.crc32, 16), told.data_bytes) == (zlib.crc32(disk), (64 << 10) + (3 << 20))
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as archive:
        assert archive.getnames() == ["disk.raw"]
        file = archive.extractfile("disk.raw")
        assert file is not None
        assert file.read() == disk
    listed = subprocess.run(["tar", "-tv"], input=unpacked, capture_output=True, check=True)
    assert str(SIZE).encode() in listed.stdout
    assert len(unpacked) % 10240 == 0


@pytest.mark.parametrize(("name", "driver"), [("qcow2", "qcow2"), ("qcow2-compressed", "qcow2"), ("vmdk", "vmdk")])
def test_formats_of_other_programs(root: Path, bucket: Any, name: str, driver: str, tmp_path: Path) -> None:
    _told, data = written(root, name, bucket)
    file = tmp_path / "found"
    file.write_bytes(data)
    disk = root / "dev/disk/by-id/google-export"
    subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", driver, disk, file], check=True, capture_output=True)
    assert list((root / "var/tmp").iterdir()) == []


def test_a_raw_disk(root: Path, bucket: Any) -> None:
    assert written(root, "raw", bucket)[1] == (root / "dev/disk/by-id/google-export").read_bytes()


def test_faults_say_what_they_are(root: Path, bucket: Any) -> None:
    url = session(bucket)
    (root / "usr/bin/qemu-img").unlink()
    with pytest.raises(StepError, match="this machine has no qemu-img"):
        act(ExportDisk("qcow2", url), context(root))
    with pytest.raises(StepError, match="the upload as gce: its upload is no longer known"):
        act(ExportDisk("gce", url + "0"), context(root))
    (root / "dev/disk/by-id/google-export").unlink()
    (root / "sys/block").mkdir(parents=True)
    with pytest.raises(StepError, match="the disk of the image is not attached"):
        act(ExportDisk("gce", url), context(root))
