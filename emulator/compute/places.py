"""What every project has without making it: zones, machine types, disk types, one network."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from shared.build.machine_types import processor_of

from .rest.links import Links
from .rest.refusals import Document

_REGIONS = {  # all of Google's public list, and the letters of their zones; but the zones for AI alone
    **dict.fromkeys(
        (
            *("africa-south1", "asia-east1", "asia-east2", "asia-northeast1", "asia-northeast2", "asia-northeast3"),
            *("asia-south1", "asia-south2", "asia-southeast1", "asia-southeast2", "asia-southeast3"),
            *("australia-southeast1", "australia-southeast2", "europe-central2", "europe-north1", "europe-north2"),
            *("europe-southwest1", "europe-west2", "europe-west3", "europe-west4", "europe-west6", "europe-west8"),
            *("europe-west9", "europe-west10", "europe-west12", "me-central1", "me-central2", "me-west1"),
            *("northamerica-northeast1", "northamerica-northeast2", "northamerica-south1", "southamerica-east1"),
            *(
                "southamerica-west1",
                "us-east4",
                "us-east5",
                "us-south1",
                "us-west1",
                "us-west2",
                "us-west3",
                "us-west4",
            ),
        ),
        "abc",
    ),
    **dict.fromkeys(("europe-west1", "us-east1"), "bcd"),
    "us-central1": "abcf",
}
ZONES = tuple(f"{region}-{letter}" for region, letters in sorted(_REGIONS.items()) for letter in letters)
CREATED = "2020-01-01T00:00:00.000+00:00"
PROJECT_NUMBER = "100000000001"
_CPUS = (2, 4, 8, 16, 32)
_SERIES = ("e2", "n1", "n2", "n2d", "n4", "c2", "t2d")
_GB_A_CPU = {"standard": 4.0, "highmem": 8.0, "highcpu": 1.0}
_SHARED = {"e2-micro": 1.0, "e2-small": 2.0, "e2-medium": 4.0, "f1-micro": 0.6, "g1-small": 1.7}
_CUSTOM = re.compile(r"(?:[a-z0-9]+-)?custom-(?P<cpus>[0-9]+)-(?P<memory>[0-9]+)")
_DISK_TYPES = {
    "pd-standard": "Standard Persistent Disk",
    "pd-balanced": "Balanced Persistent Disk",
    "pd-ssd": "SSD Persistent Disk",
    "hyperdisk-balanced": "Hyperdisk Balanced",
    "local-ssd": "Local SSD",
}
_ARM = ("t2a", "c4a", "n4a")


def machine_size(name: str) -> tuple[int, int] | None:
    """Return the CPUs and megabytes of a machine type; None when there is none of that name."""
    if name in _SHARED:
        return (1 if name in ("f1-micro", "g1-small") else 2), int(_SHARED[name] * 1024)
    if custom := _CUSTOM.fullmatch(name):
        return int(custom["cpus"]), int(custom["memory"])
    series, _, rest = name.partition("-")
    shape, _, cpus = rest.partition("-")
    if series not in (*_SERIES, *_ARM) or shape not in _GB_A_CPU or not cpus.isdecimal() or len(cpus) > 9:
        return None
    if int(cpus) not in _CPUS and not (cpus == "1" and series in ("n1", "t2d", *_ARM)):
        return None
    return int(cpus), int(int(cpus) * _GB_A_CPU[shape] * 1024)


class Places:
    """The zones of the endpoint and what they offer. Every project has the same."""

    def __init__(self, zones: Sequence[str], links: Links) -> None:
        self.zones = tuple(zones)
        self._links = links

    def has_zone(self, name: str) -> bool:
        """Return whether there is a zone of that name."""
        return name in self.zones

    def project(self, project: str) -> Document:
        """Return a project's document; every project exists."""
        return {
            "kind": "compute#project",
            "id": PROJECT_NUMBER,
            "name": project,
            "creationTimestamp": CREATED,
            "commonInstanceMetadata": {"kind": "compute#metadata", "fingerprint": "AAAAAAAAAAA="},
            "defaultServiceAccount": f"{PROJECT_NUMBER}-compute@developer.gserviceaccount.com",
            "selfLink": self._links.url(f"projects/{project}"),
        }

    def zone_list(self, project: str) -> Iterator[Document]:
        """Yield the zones."""
        for number, name in enumerate(self.zones, 1):
            yield self._entry(f"projects/{project}/zones/{name}", "zone", 2000 + number) | {
                "status": "UP",
                "region": self._links.url(f"projects/{project}/regions/{name.rpartition('-')[0]}"),
            }

    def region_list(self, project: str) -> Iterator[Document]:
        """Yield the regions of the zones."""
        for number, region in enumerate(sorted({name.rpartition("-")[0] for name in self.zones}), 1):
            zones = [name for name in self.zones if name.rpartition("-")[0] == region]
            yield self._entry(f"projects/{project}/regions/{region}", "region", 1000 + number) | {
                "status": "UP",
                "zones": [self._links.url(f"projects/{project}/zones/{zone}") for zone in zones],
            }

    def machine_types(self, project: str, zone: str) -> Iterator[Document]:
        """Yield a zone's machine types."""
        names = [f"{series}-{shape}-{cpus}" for series in _SERIES for shape in _GB_A_CPU for cpus in _CPUS]
        for number, name in enumerate(
            [*_SHARED, "n1-standard-1", *(f"{series}-standard-1" for series in _ARM), *names], 1
        ):
            if found := self.machine_type(project, zone, name, number):
                yield found

    def machine_type(self, project: str, zone: str, name: str, number: int = 0) -> Document | None:
        """Return one machine type, which may be a custom one."""
        size = machine_size(name)
        if size is None:
            return None
        cpus, memory = size
        return self._entry(f"projects/{project}/zones/{zone}/machineTypes/{name}", "machineType", 3000 + number) | {
            "zone": zone,
            "description": f"{cpus} vCPUs, {memory / 1024:g} GB RAM",
            "guestCpus": cpus,
            "memoryMb": memory,
            "isSharedCpu": name in _SHARED,
            "architecture": processor_of(name).name.upper(),
            "maximumPersistentDisks": 128,
            "maximumPersistentDisksSizeGb": "263168",
        }

    def disk_types(self, project: str, zone: str) -> Iterator[Document]:
        """Yield a zone's disk types."""
        for number, (name, description) in enumerate(_DISK_TYPES.items(), 1):
            yield self._entry(f"projects/{project}/zones/{zone}/diskTypes/{name}", "diskType", 4000 + number) | {
                "zone": self._links.url(f"projects/{project}/zones/{zone}"),
                "description": description,
                "defaultDiskSizeGb": "500" if name == "pd-standard" else "100",
                "validDiskSize": "10GB-65536GB",
            }

    def networks(self, project: str) -> Iterator[Document]:
        """Yield the one network."""
        yield self._entry(f"projects/{project}/global/networks/default", "network", 5001) | {
            "autoCreateSubnetworks": True,
            "routingConfig": {"routingMode": "REGIONAL"},
        }

    def subnetworks(self, project: str, region: str) -> Iterator[Document]:
        """Return the one network's subnetwork of a region, which has its name."""
        if region in {name.rpartition("-")[0] for name in self.zones}:
            yield self._entry(f"projects/{project}/regions/{region}/subnetworks/default", "subnetwork", 5002) | {
                "network": self._links.url(f"projects/{project}/global/networks/default"),
                "region": self._links.url(f"projects/{project}/regions/{region}"),
                "ipCidrRange": "10.128.0.0/20",
            }

    def _entry(self, path: str, kind: str, number: int) -> Document:
        return {
            "kind": f"compute#{kind}",
            "id": str(number),
            "name": path.rsplit("/", 1)[-1],
            "creationTimestamp": CREATED,
            "selfLink": self._links.url(path),
        }
