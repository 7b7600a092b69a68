"""write: the disk that the steps have left goes to a device of the same size, and is looked into before."""

from __future__ import annotations

import fcntl
import json
import os
import struct
from pathlib import Path

from provisioner.protocol import BUILD, decode_job

from ..build.resources import boot_disk_name
from ..clock import SystemClock
from ..delivery.cidata import JOB_DOCUMENT
from ..disks.extents import copy_range, data_extents
from ..errors import EnvironmentFault
from ..host.build_folder import BuildFolder, build_ids
from ..images.catalogue import Catalogue
from ..local.compute import LocalCompute
from ..machines.machines import Machines
from .make_root import drop_report, made_root, print_line
from .run_steps import JOB_NOTE

FINDINGS = "findings.json"
BEGUN = "begun"  # has the attempt whose device was written to
WRITE_ZEROS = 0x127F  # BLKZEROOUT of linux/fs.h
HEAD = 1 << 20  # bytes at the start of a device that tell whether it holds anything


def write_device(home: Path, device: Path, cidata: Path) -> None:
    """Write the disk of the only build below `home` to a device, and its findings beside. GoldsmithError.

    The device is of the attempt whose job is in the cidata; an earlier one may have left the disk.
    """
    made = made_root(home)
    [build_id] = build_ids(home)
    _, of_disk = json.loads((BuildFolder(home, build_id).path / JOB_NOTE).read_text())
    name = boot_disk_name(build_id, of_disk, BUILD)
    catalogue = Catalogue(home, SystemClock())
    with Machines(home, drop_report) as machines:
        compute = LocalCompute(home, catalogue, machines, SystemClock(), environment={})
        found = compute.inspect_disk(name, made.image)
    (home / FINDINGS).write_text(json.dumps([[each.path, each.what, each.remedy] for each in found]))
    begun = home / BEGUN
    attempt = str(decode_job((cidata / JOB_DOCUMENT).read_bytes()).attempt)
    again = begun.exists() and begun.read_text() == attempt  # each attempt has a device of its own
    begun.write_text(attempt)
    copied = copy_to_device(BuildFolder(home, build_id).disk(name), device, blank=not again)
    print_line(f"{copied >> 20} MiB of {made.disk_size_gb} GB are written to {device}")


def copy_to_device(disk: Path, device: Path, *, blank: bool) -> int:
    """Copy what a sparse file holds to a device of its size, and wait until it is there; return the bytes.

    The device is emptied first, unless it is known to be blank. EnvironmentFault for a device of another size.
    """
    reader = os.open(disk, os.O_RDONLY | os.O_CLOEXEC)
    writer = os.open(device, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    try:
        size, room = os.fstat(reader).st_size, os.lseek(writer, 0, os.SEEK_END)
        if size != room:
            raise EnvironmentFault(f"{device} has {room} bytes, and the disk {size}; build again")
        if not blank or os.pread(writer, HEAD, 0).strip(b"\0"):
            fcntl.ioctl(writer, WRITE_ZEROS, struct.pack("QQ", 0, size))
        extents = list(data_extents(reader, size))
        for start, length in extents:
            copy_range(reader, start, writer, start, length)
        os.fsync(writer)
        return sum(length for _, length in extents)
    finally:
        os.close(reader)
        os.close(writer)
