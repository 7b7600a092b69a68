"""Store the consoles of a build's VMs while they can be read: a VM that is gone, or has stopped, has none.

Compute Engine promises serial output of running VMs alone. So a console is stored when the VM says that it is done,
before it is deleted, and on Google Cloud each minute; each time over what was stored before.
"""

from __future__ import annotations

import logging

from ..backend import Backend
from ..build.build import Build
from ..errors import GoldsmithError, NotFound, Transient

LOG = logging.getLogger(__name__)

CONSOLE = 1  # serial port


def log_folder(backend: Backend, build_id: str) -> str:
    """Return where the logs of a build are stored."""
    return backend.logs.replace("{build_id}", build_id)


def log_uri(backend: Backend, build_id: str, machine: str) -> str:
    """Return where a machine's console is stored."""
    return f"{log_folder(backend, build_id)}/{machine}.log"


def store_console(machine: str, project: str, zone: str, build: Build, backend: Backend) -> None:
    """Store what a machine's console says by now, if it can be read. Transient."""
    try:
        output, _next = backend.compute.serial_output(machine, project, zone, CONSOLE, 0)
    except NotFound:
        return  # never made, or stopped or deleted: what there was has been stored before
    store(log_uri(backend, build.id, machine), output, f"the log of {machine}", build, backend)


def store(uri: str, data: bytes, what: str, build: Build, backend: Backend) -> None:
    """Store a log that only people read; a lasting fault is no reason to stop. Transient."""
    try:
        backend.bucket.write(uri, data)
    except Transient:
        raise
    except GoldsmithError as error:  # a full disk, say: what is deleted next makes room, so it must not wait
        LOG.warning("build %s: %s is lost: %s", build.id, what, error)
