"""The cidata: its files, and what cloud-init is told."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import yaml

from provisioner.protocol import Job, Step, decode_job
from shared.bundle import bootstrap_script, provisioner_pyz, start_script
from shared.cidata import (
    CIDATA_ATTRIBUTE,
    CONTEXT_ATTRIBUTE,
    START,
    cidata_files,
    instance_metadata,
    meta_data,
    user_data,
)

JOB = Job("hello-0123456789ab", 1, "00" * 32, (Step("a", "run-script", {"script": "a.sh"}),))


def test_the_files_are_all_there(tmp_path: Path) -> None:
    context = tmp_path / "context.tar"
    files = cidata_files(JOB, context)
    assert set(files) == {"user-data", "meta-data", "bootstrap.sh", "provisioner.pyz", "job.json", "context.tar"}
    assert files["context.tar"] == context
    assert files["bootstrap.sh"] == bootstrap_script()
    assert files["provisioner.pyz"] == provisioner_pyz()
    job = files["job.json"]
    assert isinstance(job, bytes)
    assert decode_job(job) == JOB
    assert "context.tar" not in cidata_files(JOB, None)


def test_every_attempt_is_an_instance() -> None:
    jobs = (JOB, replace(JOB, attempt=2), replace(JOB, phase="verify"), replace(JOB, build_id="other"))
    ids = [yaml.safe_load(meta_data(job))["instance-id"] for job in jobs]
    assert len(set(ids)) == len(jobs)


def test_cloud_init_is_told_to_start_us_at_every_boot_and_do_little_else() -> None:
    text = user_data()
    assert text.startswith(b"#cloud-config\n")
    config = yaml.safe_load(text)
    assert config["cloud_final_modules"] == config["cloud_config_modules"] == config["users"] == []
    assert config["cloud_init_modules"] == ["bootcmd", "growpart", "resizefs"]
    assert config["preserve_hostname"] is True
    [[shell, option, script]] = config["bootcmd"]
    assert (shell, option) == ("sh", "-c")
    subprocess.run(["shellcheck", "--shell=sh", "-"], input=script, text=True, check=True)
    assert script.startswith(f"mkdir -p /run/goldsmith && cat >{START} <<'END_OF_START'\n#!/bin/sh\n")
    assert start_script().decode() in script
    assert script.endswith(f"\nEND_OF_START\nsh {START}")


def test_both_ways_of_metadata_start_the_same_script() -> None:
    metadata = instance_metadata()
    assert metadata["startup-script"].encode() == start_script()
    assert metadata["user-data"].encode() == user_data()
    assert sum(map(len, metadata.values())) < 128 << 10  # half of what Compute Engine takes as one value


def test_the_start_script_asks_for_the_attributes_that_are_set() -> None:
    for name in (CIDATA_ATTRIBUTE, CONTEXT_ATTRIBUTE):
        assert f'attribute("{name}")' in start_script().decode()
