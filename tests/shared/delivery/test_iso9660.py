"""The file system that Goldsmith writes, as other programs read it."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from shared.delivery.iso9660 import FILE_LIMIT, ISO_SECTOR, Content, FileStream, image_size, iso_image
from shared.errors import InputError
from tests.shared.delivery.isoinfo import isoinfo

FILES: dict[str, Content] = {
    "user-data": b"#cloud-config\n",
    "job.json": b"{}",
    "provisioner.pyz": bytes(range(256)) * 400,
    "context.tar": FileStream(3 * ISO_SECTOR, [b"a" * ISO_SECTOR, b"b" * (2 * ISO_SECTOR)]),
    "empty": b"",
    "UPPER_and-lower.a.b.c": b"x" * ISO_SECTOR,
}


def data_of(content: Content) -> bytes:
    return content if isinstance(content, bytes) else b"".join(content.parts)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "cidata.iso"
    path.write_bytes(b"".join(iso_image(FILES, "cidata")))
    return path


def test_every_file_is_read_back_by_its_own_name(image: Path) -> None:
    listed = isoinfo(image, "-R", "-f").decode().split()
    assert listed == sorted(f"/{name}" for name in FILES)
    for name, content in FILES.items():
        assert isoinfo(image, "-R", "-x", f"/{name}") == data_of(content), name


def test_it_has_the_label_and_nothing_reads_past_its_end(image: Path) -> None:
    told = isoinfo(image, "-d").decode()
    assert "Volume id: cidata\n" in told
    assert f"Volume size is: {image.stat().st_size // ISO_SECTOR}\n" in told
    assert image.stat().st_size == image_size(FILES)
    assert b'LABEL="cidata"' in subprocess.run(["blkid", "-p", str(image)], check=True, capture_output=True).stdout


def test_only_root_may_read(image: Path) -> None:
    modes = {line.split()[0] for line in isoinfo(image, "-R", "-l").decode().splitlines() if line[:1] in "-d" and line}
    assert modes == {"-r--------", "dr-x------"}


def test_equal_files_give_equal_bytes() -> None:
    reordered = dict(reversed(FILES.items()))
    digests = {hashlib.sha256(b"".join(iso_image(files, "cidata"))).hexdigest() for files in (FILES, reordered)}
    assert len(digests) == 1


@pytest.mark.parametrize("parts", [[b"a" * 9], [b"a" * 11], [b"a" * 6, b"a" * 5], []])
def test_a_stream_of_another_length_is_refused(parts: list[bytes]) -> None:
    with pytest.raises(InputError, match=r"context\.tar does not have the 10 bytes"):
        list(iso_image({"context.tar": FileStream(10, parts)}, "cidata"))


def test_what_cannot_be_written_is_refused_before_anything_is() -> None:
    image = iso_image({"context.tar": FileStream(FILE_LIMIT + 1, [])}, "cidata")
    with pytest.raises(InputError, match="can have 4294967295 at most"):
        next(image)
    with pytest.raises(InputError, match="do not fit into one folder"):
        list(iso_image({f"file-{number}": b"" for number in range(40)}, "cidata"))
