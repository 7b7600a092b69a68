"""The cidata: the files that a build VM gets, on a disk labelled `cidata` or in one archive.

They are a NoCloud source of cloud-init as well. Its user-data starts the start script at every boot, since a job goes
on after a reboot. The start script waits for cloud-init, which would otherwise write while the provisioner cleans, and
the bootstrap script ensures that the provisioner is started once per boot.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from provisioner.protocol import Job, encode

from ..host.scratch import faults, scratch_folder
from .bundle import bootstrap_script, kept_pyz, provisioner_pyz, start_script
from .iso9660 import Content, FileStream, iso_image
from .maker_bundle import MAKER, maker_zip

LABEL = "cidata"  # cloud-init looks for it
CONTEXT = "context.tar"
JOB_DOCUMENT = "job.json"
CIDATA_ATTRIBUTE = "goldsmith-cidata"  # metadata of a VM without such a disk: the URL of the files' archive
CONTEXT_ATTRIBUTE = "goldsmith-context"  # and of context.tar, if there is one
PATIENCE_ATTRIBUTE = "goldsmith-patience"  # seconds after the boot within which the files must be there
START = "/run/goldsmith/start.sh"

_PIECE = 1 << 20  # bytes of a file that are held at a time


def cidata_files(job: Job, context: Path | None, kept: Path | None = None) -> dict[str, bytes | Path]:
    """Return the cidata's files: name -> contents, or the file that holds them.

    `context` is an uncompressed tar archive, as shared/context/packing.py packs it. `kept` is a folder that keeps the
    packed provisioner. Raises EnvironmentFault when the provisioner's own sources cannot be read.
    """
    files: dict[str, bytes | Path] = {**small_files(job, kept)}
    if context is not None:
        files[CONTEXT] = context
    return files


def small_files(job: Job, kept: Path | None = None) -> dict[str, bytes]:
    """Return the cidata's files without the context. Raises EnvironmentFault."""
    files = {
        "user-data": user_data(),
        "meta-data": meta_data(job),
        "bootstrap.sh": bootstrap_script(),
        "provisioner.pyz": kept_pyz(kept) if kept else provisioner_pyz(),
        JOB_DOCUMENT: encode(job),
    }
    return {**files, MAKER: maker_zip()} if job.makes_root else files


def write_cidata(files: Mapping[str, bytes | Path], target: Path) -> None:
    """Write the disk with these files (name -> contents, or the file that holds them), whole or not at all.

    The disk holds the key that signs reports, and the context: only its owner may read it. The same files give the same
    bytes. Raises FileNotFoundError for a file that is absent, InputError for one of 4 GiB or more, NoSpace,
    EnvironmentFault.
    """
    with faults(target.parent), scratch_folder(target.parent) as scratch:
        image = scratch.path / target.name
        image.touch(mode=0o600)
        with image.open("wb") as disk:
            disk.writelines(iso_image({name: _content(file) for name, file in files.items()}, LABEL))
        image.replace(target)


def _content(file: bytes | Path) -> Content:
    return file if isinstance(file, bytes) else FileStream(file.stat().st_size, _pieces(file))


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def instance_metadata() -> dict[str, str]:
    """Return the metadata that starts a build VM of Compute Engine, by cloud-init or by the guest agent alone."""
    return {"user-data": user_data().decode(), "startup-script": start_script().decode()}


def user_data() -> bytes:
    """Return the cloud-config. Only the modules that a build needs run: others would change the image."""
    folder = START.rpartition("/")[0]
    start = f"mkdir -p {folder} && cat >{START} <<'END_OF_START'\n{start_script().decode()}END_OF_START\nsh {START}"
    config = {
        "bootcmd": [["sh", "-c", start]],  # bootcmd runs at every boot, runcmd only at an instance's first
        "cloud_init_modules": ["bootcmd", "growpart", "resizefs"],
        "cloud_config_modules": [],
        "cloud_final_modules": [],
        "users": [],
        "preserve_hostname": True,
    }
    return f"#cloud-config\n{json.dumps(config, indent=1)}\n".encode()


def meta_data(job: Job) -> bytes:
    """Return NoCloud's meta-data. Each attempt is a new instance, for which cloud-init runs everything again."""
    return json.dumps({"instance-id": f"{job.build_id}-{job.phase}-{job.attempt}"}).encode() + b"\n"
