"""The cidata: the files that a build VM is given, on a disk labelled `cidata` or in one archive.

It is a NoCloud source of cloud-init at the same time. What its user-data starts is started at every boot, since a job
goes on after a reboot; the bootstrap script sees to it that this happens once per boot.
"""

from __future__ import annotations

import json
from pathlib import Path

from provisioner.protocol import Job, encode

from .bundle import bootstrap_script, provisioner_pyz

LABEL = "cidata"  # cloud-init looks for it
MOUNT_POINT = "/run/goldsmith/cidata"
UNIT = "goldsmith.service"

# After cloud-init has ended: it would write into what the provisioner cleans.
_UNIT_TEXT = f"""\
[Unit]
Description=Goldsmith: build this image
After=cloud-final.service network-online.target
Wants=network-online.target
[Service]
Type=exec
Environment=at={MOUNT_POINT}
ExecStartPre=/bin/sh -c '[ -e $at/job.json ] || {{ mkdir -p $at && mount -o ro LABEL={LABEL} $at; }}'
ExecStart=/bin/sh {MOUNT_POINT}/bootstrap.sh
StandardOutput=null
StandardError=journal+console
KillMode=mixed
"""


def cidata_files(job: Job, context: Path | None) -> dict[str, bytes | Path]:
    """Give the cidata's files: name to contents, or to the file that holds them.

    `context` is an uncompressed tar archive, as shared/context.py packs it. EnvironmentFault when the provisioner's own
    sources cannot be read.
    """
    files: dict[str, bytes | Path] = {
        "user-data": user_data(),
        "meta-data": meta_data(job),
        "bootstrap.sh": bootstrap_script(),
        "provisioner.pyz": provisioner_pyz(),
        "job.json": encode(job),
    }
    if context is not None:
        files["context.tar"] = context
    return files


def user_data() -> bytes:
    """Give the cloud-config. Of cloud-init's modules only those run that a build needs: the others change the image."""
    place = f"/run/systemd/system/{UNIT}"
    start = f"mkdir -p /run/systemd/system && cat >{place} <<'END'\n{_UNIT_TEXT}END\n"
    start += f"systemctl daemon-reload && systemctl start --no-block {UNIT}"
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
