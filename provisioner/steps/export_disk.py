"""export-disk: write the disk of an image in a format, into one object of Cloud Storage.

The disk is read as bytes alone: nothing of it is mounted or run. Memory holds a few megabytes, however large it is.
The archive of Compute Engine goes straight into the upload; other formats are files on this machine's boot disk first,
since qemu-img writes them out of order.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import time
import zlib

from ..machine.scratch_disk import find_export_disk
from ..protocol import GCE_FORMAT, QEMU_FORMATS, RAW_FORMAT, ExportDisk, ExportedObject, encode_exported
from ..system.disk_file import CHUNK, ZEROS, DiskFile
from ..system.process import TimedOut, find_program
from ..system.upload import Upload, UploadError
from .step_context import StepContext, StepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Tuple

MEMBER = "disk.raw"  # what Compute Engine wants in the archive
LEVELS = {"fast": 1, "best": 9}
BLOCK = 64 << 10  # bytes; data is counted in such
RECORD = 10240  # tar ends with zeros up to a multiple of this
FILE = "var/tmp/goldsmith-export"
TOLD_EVERY = 15.0  # seconds
TIMED_OUT = 124  # the exit status that timeout(1) has


def act(inputs: ExportDisk, context: StepContext) -> int:
    """Return 0; the note says what was written. StepError; TimedOut; OSError."""
    device = find_export_disk(context.root)
    if not device:
        raise StepError("the disk of the image is not attached; build again")
    try:
        written = _write(device, inputs, context)
    except UploadError as error:
        raise StepError(f"the upload as {inputs.format}: {error}") from error
    context.note = encode_exported(written)
    return 0


def _write(device: str, inputs: ExportDisk, context: StepContext) -> ExportedObject:
    upload = Upload(inputs.session)
    data_bytes, tar_sha256, crc32 = 0, "", ""
    with DiskFile(device) as disk:
        size = disk.size
        if inputs.format == GCE_FORMAT:
            data_bytes, tar_sha256, crc32 = _archive(disk, upload, LEVELS.get(inputs.compression, 1), context)
        elif inputs.format == RAW_FORMAT:
            for data in _read(disk, upload, context):
                upload.write(data)
        elif inputs.format in QEMU_FORMATS:
            _converted(device, upload, inputs.format, context)
        else:
            raise StepError(f"there is no format {inputs.format}")
    upload.close()
    context.output.say(f"{inputs.format} is written: {upload.bytes} bytes, SHA-256 {upload.sha256}")
    written = (upload.bytes, upload.sha256, upload.md5, size, data_bytes, tar_sha256, crc32)
    return ExportedObject(inputs.format, *written)


def _archive(disk: DiskFile, upload: Upload, level: int, context: StepContext) -> Tuple[int, str, str]:
    """Write the tar.gz that Compute Engine imports; return the bytes of data, the tar's SHA-256 and the disk's CRC."""
    member = tarfile.TarInfo(MEMBER)
    member.size, member.mode = disk.size, 0o644
    head = member.tobuf(tarfile.GNU_FORMAT)
    compressor = zlib.compressobj(level, zlib.DEFLATED, 31)
    whole, crc, data_bytes = hashlib.sha256(head), 0, 0
    upload.write(compressor.compress(head))
    for data in _read(disk, upload, context):
        whole.update(data)
        crc = zlib.crc32(data, crc)
        data_bytes += _data_in(data)
        upload.write(compressor.compress(data))
    used = len(head) + disk.size
    end = bytes(-used % 512 + 1024)
    end += bytes(-(used + len(end)) % RECORD)
    whole.update(end)
    upload.write(compressor.compress(end) + compressor.flush())
    return data_bytes, whole.hexdigest(), f"{crc:08x}"


def _data_in(data: bytes) -> int:
    """Return how many bytes of a piece are in blocks that are not zeros."""
    if data == ZEROS[: len(data)]:
        return 0
    blocks = (data[start : start + BLOCK] for start in range(0, len(data), BLOCK))
    return sum(len(block) for block in blocks if block != ZEROS[: len(block)])


def _converted(device: str, upload: Upload, name: str, context: StepContext) -> None:
    """Let qemu-img write a file, check it and compare it with the disk; upload it. StepError."""
    program = find_program("qemu-img", context.root)
    if not program:
        raise StepError("this machine has no qemu-img, which writes the format")
    driver, *options = QEMU_FORMATS[name]
    path = os.path.join(context.root, FILE)
    commands = (
        ["convert", "-f", "raw", "-O", driver, *options, device, path],
        ["check", "-q", "-f", driver, path],
        ["compare", "-q", "-f", "raw", "-F", driver, device, path],
    )
    try:
        for words in commands:
            status = context.run([program, *words], {})
            if status:
                raise StepError(f"qemu-img {words[0]} of {name} ends with status {status}", status)
        with DiskFile(path) as file:
            for data in _read(file, upload, context):
                upload.write(data)
    finally:
        if os.path.exists(path):
            os.unlink(path)


def _read(disk: DiskFile, upload: Upload, context: StepContext) -> Iterator[bytes]:
    """Yield the pieces of a disk or a file, and tell how far it is. TimedOut."""
    told = time.monotonic()
    for offset in range(0, disk.size, CHUNK):
        now = time.monotonic()
        if now >= context.deadline:
            raise TimedOut(TIMED_OUT)
        if now - told >= TOLD_EVERY:
            told = now
            done, size, sent = (number >> 20 for number in (offset, disk.size, upload.bytes))
            context.output.say(f"{done} of {size} MiB are read, and {sent} MiB of the object written")
        yield disk.read(offset, CHUNK)
