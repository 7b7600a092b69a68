"""The disk that a machine of the phase EXPORT reads: attached once the machine runs, because it asks for it.

It may be a copy of this machine's own boot disk, with the same partitions by every name that boot loader and kernel go
by. Were it there at the start, either disk could be booted.
"""

from __future__ import annotations

import time

from ..machine.scratch_disk import ScratchError, find_export_disk, wait_for
from ..protocol import DISK_WANTED, EXPORT_DISK
from ..reporting.journal import Journal

SECONDS = 900.0  # until it is given up
AGAIN = 90.0  # seconds between two times that it is asked for


def await_disk(journal: Journal, root: str, seconds: float = SECONDS, again: float = AGAIN) -> str:
    """Ask for the disk until it is there; return what is wrong, or "". OSError."""
    until = time.monotonic() + seconds
    while not find_export_disk(root):
        left = until - time.monotonic()
        if left <= 0:
            return f"the disk of the image was not attached for {seconds:g} s; see the log of export_image"
        journal.record(DISK_WANTED, message="waiting for the disk of the image")
        try:
            wait_for(root, min(again, left), EXPORT_DISK, find_export_disk)
        except ScratchError:
            continue
    return ""
