"""The cidata: its files, the disk that carries them, and cloud-init's configuration."""

from __future__ import annotations

import os
import subprocess
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from provisioner.protocol import Job, Step, decode_job
from shared.delivery.bundle import bootstrap_script, provisioner_pyz, start_script
from shared.delivery.cidata import (
    CIDATA_ATTRIBUTE,
    CONTEXT_ATTRIBUTE,
    START,
    cidata_files,
    instance_metadata,
    meta_data,
    user_data,
    write_cidata,
)
from shared.errors import InputError
from tests.shared.delivery.isoinfo import isoinfo

JOB = Job("hello-0123456789ab", 1, "00" * 32, (Step("a", "run-script", {"script": "a.sh"}),))

FILES = {"meta-data": b"instance-id: x\n", "user-data": b"#cloud-config\n", "provisioner.pyz": b"z" * 70_001}


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


def test_the_disk_gives_every_file_back(tmp_path: Path) -> None:
    context = tmp_path / "context.tar"
    context.write_bytes(os.urandom(3_000_001))
    files = cidata_files(JOB, context)
    disk = tmp_path / "cidata.iso"
    write_cidata(files, disk)
    assert isoinfo(disk, "-R", "-f").decode().split() == sorted(f"/{name}" for name in files)
    for name, file in files.items():
        data = file if isinstance(file, bytes) else file.read_bytes()
        assert isoinfo(disk, "-R", "-x", f"/{name}") == data, name
    label = subprocess.run(["blkid", "-o", "value", "-s", "LABEL", disk], check=True, capture_output=True).stdout
    assert label == b"cidata\n"


def test_only_its_owner_reads_the_disk(tmp_path: Path) -> None:
    """job.json holds a key, and GOLDSMITH_HOME may be a folder that is open to all."""
    umask = os.umask(0)
    try:
        write_cidata(FILES, tmp_path / "cidata.iso")
    finally:
        os.umask(umask)
    assert (tmp_path / "cidata.iso").stat().st_mode & 0o777 == 0o600


def test_the_same_files_give_the_same_disk(tmp_path: Path) -> None:
    context = tmp_path / "context.tar"
    context.write_bytes(b"c" * 10_000)
    context.chmod(0o640)
    write_cidata({**FILES, "context.tar": context}, tmp_path / "one.iso")
    os.utime(context, (1, 1))
    context.chmod(0o600)
    write_cidata({"context.tar": context, **FILES}, tmp_path / "two.iso")
    assert (tmp_path / "one.iso").read_bytes() == (tmp_path / "two.iso").read_bytes()


def test_memory_does_not_grow_with_the_context(tmp_path: Path) -> None:
    peaks = []
    for size in (8 << 20, 128 << 20):
        context = tmp_path / f"{size}.tar"
        with context.open("wb") as file:
            file.truncate(size)
        tracemalloc.start()
        try:
            write_cidata({"context.tar": context}, tmp_path / "cidata.iso")
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert (tmp_path / "cidata.iso").stat().st_size > size
    assert max(peaks) < 8 << 20


def test_a_context_that_cannot_be_delivered_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_cidata({"context.tar": tmp_path / "nowhere"}, tmp_path / "cidata.iso")
    assert list(tmp_path.iterdir()) == []
    context = tmp_path / "context.tar"
    with context.open("wb") as file:
        file.truncate(4 << 30)
    with pytest.raises(InputError, match=r"^context\.tar has 4294967296 bytes"):
        write_cidata({"context.tar": context}, tmp_path / "cidata.iso")
    assert list(tmp_path.iterdir()) == [context]


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
