"""The cidata: the files that a build VM is given, on a disk labelled `cidata` or in one archive.

It is a NoCloud source of cloud-init at the same time. What its user-data starts is started at every boot, since a job
goes on after a reboot; the start script waits for cloud-init, which would write into what the provisioner cleans, and
the bootstrap script sees to it that the provisioner is started once per boot.
"""

from __future__ import annotations

import json
from pathlib import Path

from provisioner.protocol import Job, encode

from .bundle import bootstrap_script, provisioner_pyz, start_script

LABEL = "cidata"  # cloud-init looks for it
CONTEXT = "context.tar"
CIDATA_ATTRIBUTE = "goldsmith-cidata"  # metadata of a VM without such a disk: the URL of the files' archive
CONTEXT_ATTRIBUTE = "goldsmith-context"  # and of context.tar, where there is one
START = "/run/goldsmith/start.sh"


def cidata_files(job: Job, context: Path | None) -> dict[str, bytes | Path]:
    """Give the cidata's files: name to contents, or to the file that holds them.

    `context` is an uncompressed tar archive, as shared/context.py packs it. EnvironmentFault when the provisioner's own
    sources cannot be read.
    """
    files: dict[str, bytes | Path] = {**small_files(job)}
    if context is not None:
        files[CONTEXT] = context
    return files


def small_files(job: Job) -> dict[str, bytes]:
    """Give the cidata's files but for the context. EnvironmentFault."""
    return {
        "user-data": user_data(),
        "meta-data": meta_data(job),
        "bootstrap.sh": bootstrap_script(),
        "provisioner.pyz": provisioner_pyz(),
        "job.json": encode(job),
    }


def instance_metadata() -> dict[str, str]:
    """Give what starts a build VM on Compute Engine: for cloud-init, and for images that have only the guest agent."""
    return {"user-data": user_data().decode(), "startup-script": start_script().decode()}


def user_data() -> bytes:
    """Give the cloud-config. Of cloud-init's modules only those run that a build needs: the others change the image."""
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
    """Give NoCloud's meta-data: each attempt is an instance of its own, so that cloud-init takes nothing for done."""
    return json.dumps({"instance-id": f"{job.build_id}-{job.phase}-{job.attempt}"}).encode() + b"\n"
