"""The cidata: its files, and what cloud-init is told."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import yaml

from provisioner.protocol import Job, Step, decode_job
from shared.bundle import bootstrap_script, provisioner_pyz
from shared.cidata import cidata_files, meta_data, user_data

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
    assert "ExecStart=/bin/sh /run/goldsmith/cidata/bootstrap.sh\n" in script
    assert json.dumps(config)
