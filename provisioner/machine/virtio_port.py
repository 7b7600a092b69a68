"""Open one of the machine's virtio ports by its name: a connection to the host of a VM of QEMU."""

from __future__ import annotations

import os
import time

from ..system.files import read_text
from ..system.process import find_program, run_quietly

PORTS = "/sys/class/virtio-ports"
MODULE = "virtio_console"
PATIENCE = 10.0  # seconds for the driver to find its ports
PAUSE = 0.1


def open_port(name: str) -> int:
    """Open a port for reading and writing; return its descriptor. OSError where the machine has none of that name."""
    if not os.path.isdir(PORTS):
        modprobe = find_program("modprobe")
        if modprobe:
            run_quietly([modprobe, MODULE])
    until = time.monotonic() + PATIENCE
    while True:
        path = _find(name)
        if path and os.path.exists(path):
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
        if time.monotonic() > until:
            raise OSError(f"this machine has no virtio port {name}: its kernel may lack {MODULE}")
        time.sleep(PAUSE)


def _find(name: str) -> str:
    """Return the path of the device with that name; "" where there is none."""
    try:
        ports = sorted(os.listdir(PORTS))
    except OSError:
        return ""
    for port in ports:
        try:
            if read_text(os.path.join(PORTS, port, "name")).strip() == name:
                return "/dev/" + port
        except OSError:
            continue
    return ""
