"""Compute Engine's endpoint with Google's own client library, and an image that boots into nothing."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1

from emulator.compute.endpoint import ComputeEndpoint
from emulator.web.identity import Identity
from shared.clock import SystemClock
from shared.errors import NotFound
from shared.images.catalogue import Catalogue
from shared.machines.accelerator import accelerator
from shared.ports import Message
from tests.conftest import BASE_HOME

PROJECT = "goldsmith-emulator"
ZONE = "us-central1-a"
IDLE = "idle"  # an image of one sector that does nothing, for ever
PATIENCE = 400.0  # seconds for a boot on a machine that does much else


@dataclass
class Cloud:
    """The endpoint, its clients, and what it was told. `objects` are those of Cloud Storage, by URI."""

    home: Path
    objects: dict[str, bytes] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)

    def open(self, identity: Identity, **options: str) -> ComputeEndpoint:
        _know_accelerator(self.home)
        self.endpoint = ComputeEndpoint(
            self.home,
            project=PROJECT,
            identity=identity,
            storage=self.read,
            publish=self.messages.append,
            **{"boot": "firmware", **options},  # type: ignore[arg-type]  # all options that tests give are texts
        )
        options = {"api_endpoint": self.endpoint.url}
        credentials = AnonymousCredentials()
        self.images = compute_v1.ImagesClient(client_options=options, credentials=credentials)
        self.disks = compute_v1.DisksClient(client_options=options, credentials=credentials)
        self.instances = compute_v1.InstancesClient(client_options=options, credentials=credentials)
        self.zone_operations = compute_v1.ZoneOperationsClient(client_options=options, credentials=credentials)
        self.global_operations = compute_v1.GlobalOperationsClient(client_options=options, credentials=credentials)
        return self.endpoint

    def read(self, uri: str) -> BinaryIO:
        if uri not in self.objects:
            raise NotFound(uri)
        return io.BytesIO(self.objects[uri])

    def done(self, operation: object) -> compute_v1.Operation:
        """Wait for an operation, as the client library gave it."""
        name, zone = operation.name, operation.zone.rpartition("/")[2]  # type: ignore[attr-defined]  # an extended one
        if zone:
            return self.zone_operations.wait(project=PROJECT, zone=zone, operation=name)
        return self.global_operations.wait(project=PROJECT, operation=name)

    def make(self, instance: compute_v1.Instance, zone: str = ZONE) -> compute_v1.Operation:
        """Insert an instance and wait until it runs."""
        return self.done(self.instances.insert_unary(project=PROJECT, zone=zone, instance_resource=instance))

    def instance(self, name: str) -> compute_v1.Instance:
        return self.instances.get(project=PROJECT, zone=ZONE, instance=name)

    def serial(self, name: str, port: int = 1, start: int = 0) -> compute_v1.SerialPortOutput:
        request = {"project": PROJECT, "zone": ZONE, "instance": name, "port": port, "start": start}
        return self.instances.get_serial_port_output(request=request)


def _know_accelerator(home: Path) -> None:
    """Let this host be asked once, and not by each test, how machines run on it."""
    accelerator(BASE_HOME)
    (home / "cache").mkdir(exist_ok=True)
    shutil.copy(BASE_HOME / "cache" / "accelerator.json", home / "cache")


@contextmanager
def idle_cloud(folder: Path, identity: Identity, **options: str) -> Iterator[Cloud]:
    """A cloud whose one image is IDLE, of a family of that name."""
    home = folder / "home"
    home.mkdir(mode=0o700)
    Catalogue(home, SystemClock()).add(idle_disk(folder / "idle.raw"), IDLE, transfer="move", family=IDLE)
    cloud = Cloud(home)
    with cloud.open(identity, **options):
        yield cloud


def idle_disk(path: Path) -> Path:
    """A disk whose boot sector does nothing, for ever."""
    sector = bytearray(512)
    sector[:2] = b"\xeb\xfe"
    sector[446 + 4] = 0x83
    sector[446 + 8 : 446 + 16] = (2048).to_bytes(4, "little") + (2048).to_bytes(4, "little")
    sector[510:] = b"\x55\xaa"
    path.write_bytes(bytes(sector) + bytes(4 << 20))
    return path


def instance_of(image: str, name: str = "vm-1", **fields: object) -> compute_v1.Instance:
    """An instance as a request has it, with a boot disk NAME-disk that stays when it is deleted."""
    given = compute_v1.AttachedDiskInitializeParams(source_image=image, disk_name=f"{name}-disk")
    boot_disk = compute_v1.AttachedDisk(boot=True, auto_delete=False, initialize_params=given)
    return compute_v1.Instance(
        {
            "name": name,
            "machine_type": f"zones/{ZONE}/machineTypes/e2-standard-2",
            "disks": [boot_disk],
            "network_interfaces": [compute_v1.NetworkInterface()],
            **fields,
        }
    )
