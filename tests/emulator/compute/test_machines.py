"""Instances with a guest: what it finds at link-local addresses, and who starts what it was given."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.cloud.compute_v1 import AttachedDisk, Disk, Items, Metadata, ServiceAccount

from emulator.web.identity import Identity
from tests.emulator.compute.clients import PATIENCE, PROJECT, ZONE, Cloud, instance_of

SOURCE = "projects/debian-cloud/global/images/family/debian-12"
ACCOUNT = ServiceAccount(email="build-vm@p.iam.gserviceaccount.com", scopes=["https://www.googleapis.com/auth/pubsub"])
REPORT = json.dumps({"messages": [{"data": base64.b64encode(b"from the guest").decode(), "attributes": {"a": "b"}}]})
PUBLISH = f"""\
import json, sys
from urllib.error import URLError
from urllib.request import Request, urlopen

def ask(url, data=None, **headers):
    try:
        with urlopen(Request(url, data, headers), timeout=20) as answer:
            return answer.read().decode()
    except URLError as error:
        return str(error)

METADATA = "http://metadata.google.internal/computeMetadata/v1/instance/"
flavor = {{"Metadata-Flavor": "Google"}}
print("name:", ask(METADATA + "name", **flavor))
print("without header:", ask(METADATA + "name"))
token = json.loads(ask(METADATA + "service-accounts/default/token", **flavor))["access_token"]
bearer = {{"Authorization": "Bearer " + token, "Content-Type": "application/json"}}
topics = "http://169.254.169.253/v1/projects/{PROJECT}/topics/"
print("published:", ask(topics + "build-reports:publish", {REPORT.encode()!r}, **bearer))
print("other topic:", ask(topics + "build-events:publish", {REPORT.encode()!r}, **bearer))
print("no token:", ask(topics + "build-reports:publish", {REPORT.encode()!r}))
print("signed url:", ask("http://169.254.169.253/bucket/object?X-Goog-Signature=x"))
print("no signature:", ask("http://169.254.169.253/bucket/object"))
print("elsewhere:", ask("http://169.254.169.2/"))
print("report", file=open("/dev/ttyS2", "w"))
"""
SECOND = "/dev/$(cd /sys/block && grep -lx 2 nvme?n*/nsid | cut -d/ -f1)"  # names of NVMe disks change with each boot
OFF = "sync\nkill -48 1\nsleep 600\n"  # systemd(1): SIGRTMIN+14 powers off at once


@pytest.fixture
def cloud(debian_home: Path, identity: Identity) -> Iterator[Cloud]:
    cloud = Cloud(debian_home)
    with cloud.open(identity, boot="direct", storage_url="http://127.0.0.1:1"):  # a port without a listener
        yield cloud


def run(cloud: Cloud, metadata: dict[str, str]) -> str:
    """Run an instance with a second disk until it has powered itself off; give what it wrote on its console."""
    disk = Disk(name="data", size_gb=1)
    assert not cloud.done(cloud.disks.insert_unary(project=PROJECT, zone=ZONE, disk_resource=disk)).error.errors
    items = [Items(key=key, value=value) for key, value in metadata.items()]
    instance = instance_of(SOURCE, metadata=Metadata(items=items), service_accounts=[ACCOUNT])
    instance.disks.append(AttachedDisk(source=f"zones/{ZONE}/disks/data", mode="READ_ONLY", device_name="cidata"))
    assert not cloud.make(instance).error.errors
    ends = time.monotonic() + PATIENCE
    while cloud.instance("vm-1").status != "TERMINATED":
        assert time.monotonic() < ends, cloud.serial("vm-1").contents
        time.sleep(0.1)
    return cloud.serial("vm-1").contents.replace("\r", "")


def script(code: str, disk: str) -> str:
    look = f"echo boot as $(id -un)\nlsblk -dnbo RO,SIZE $(readlink -f {disk})"
    return f"#!/bin/bash\n{look}\npython3 - <<'CODE'\n{code}CODE\n{OFF}"


@pytest.mark.vm
def test_startup_script_runs_at_every_boot_and_reports_by_google_apis(cloud: Cloud) -> None:
    console = run(cloud, {"startup-script": script(PUBLISH, SECOND)})
    for line in (
        "boot as root",
        " 0 1073741824",  # an NVMe disk does not say that it is read-only
        "name: vm-1",
        "without header: HTTP Error 403",
        'published: {"messageIds": ["',
        "other topic: HTTP Error 403",
        "no token: HTTP Error 401",
        "signed url: HTTP Error 503",  # it was passed on
        "no signature: HTTP Error 403",
        "elsewhere: <urlopen error",
    ):
        assert f"\n{line}" in console, console
    [message] = cloud.messages
    assert (message.topic, message.data, message.attributes) == ("build-reports", b"from the guest", {"a": "b"})
    kinds = [operation.operation_type for operation in cloud.zone_operations.list(project=PROJECT, zone=ZONE)]
    assert "compute.instances.guestTerminate" in kinds
    assert cloud.serial("vm-1", port=3).contents.strip() == "report"
    cloud.endpoint.cut_off()
    cloud.done(cloud.instances.start_unary(project=PROJECT, zone=ZONE, instance="vm-1"))
    ends = time.monotonic() + PATIENCE
    while cloud.instance("vm-1").status != "TERMINATED":
        assert time.monotonic() < ends
        time.sleep(0.1)
    again = cloud.serial("vm-1", start=len(console)).contents.replace("\r", "")
    assert "\nname: vm-1" in again, again
    assert "\npublished: <urlopen error" in again, again
    assert len(cloud.messages) == 1


@pytest.mark.vm
@pytest.mark.soak
def test_cloud_init_finds_compute_engine_and_runs_user_data(cloud: Cloud) -> None:
    cloud.endpoint.boot = "firmware"
    user_data = "#!/bin/bash\nexec >/dev/console 2>&1\ncloud-id\nhostname\n"
    user_data += script(PUBLISH, "/dev/disk/by-id/scsi-0Google_PersistentDisk_cidata").partition("\n")[2]
    console = run(cloud, {"user-data": user_data})
    for line in ("gce", "vm-1", "boot as root", " 1 1073741824", "name: vm-1", 'published: {"messageIds": ["'):
        assert f"\n{line}" in console, console
    assert [message.data for message in cloud.messages] == [b"from the guest"]
