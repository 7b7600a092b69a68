"""The disk that carries the job: its label, its files, the same bytes every time."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from shared.errors import MissingTool
from shared.local.cidata_disk import write_cidata
from shared.local.programs import find

FILES = {"meta-data": b"instance-id: x\n", "user-data": b"#cloud-config\n", "provisioner.pyz": b"z" * 70_001}


def _only(tmp_path: Path, *programs: str) -> dict[str, str]:
    """Give a PATH with these programs alone."""
    folder = tmp_path / "only"
    folder.mkdir()
    for program in programs:
        (folder / program).symlink_to(find(program))
    return {"PATH": str(folder)}


def _write_elsewhere(target: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Write the disk in a process that has another PATH."""
    code = (
        "import sys, pathlib\n"
        "from shared.local import cidata_disk\n"
        f"cidata_disk.write_cidata({FILES!r}, pathlib.Path(sys.argv[1]))\n"
    )
    root = Path(__file__).resolve().parents[2]
    python = root / ".venv" / "bin" / "python"
    return subprocess.run(
        [python, "-c", code, target], cwd=root, env=environment, capture_output=True, text=True, check=False
    )


def _read_iso(image: Path, name: str) -> bytes:
    return subprocess.run(["isoinfo", "-R", "-i", image, "-x", f"/{name}"], capture_output=True, check=True).stdout


def test_files_come_back(tmp_path: Path) -> None:
    context = tmp_path / "context.tar"
    context.write_bytes(os.urandom(3_000_001))
    image = tmp_path / "cidata.iso"
    write_cidata({**FILES, "context.tar": context}, image)
    assert image.read_bytes()[0x8000:][40:46] == b"cidata"
    for name, content in FILES.items():
        assert _read_iso(image, name) == content
    assert _read_iso(image, "context.tar") == context.read_bytes()


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    """job.json holds a key; and who set GOLDSMITH_HOME may have made a folder that is open to all."""
    write_cidata(FILES, tmp_path / "cidata.iso")
    assert (tmp_path / "cidata.iso").stat().st_mode & 0o777 == 0o600


def test_same_files_same_bytes(tmp_path: Path) -> None:
    context = tmp_path / "context.tar"
    context.write_bytes(b"c" * 10_000)
    context.chmod(0o640)
    write_cidata({**FILES, "context.tar": context}, tmp_path / "one.iso")
    time.sleep(1.1)  # ISO 9660's times are in hundredths of a second, its files' in whole ones
    os.utime(context)
    context.chmod(0o600)
    write_cidata({**FILES, "context.tar": context}, tmp_path / "two.iso")
    assert (tmp_path / "one.iso").read_bytes() == (tmp_path / "two.iso").read_bytes()
    assert context.stat().st_mode & 0o777 == 0o600


def test_mtools_do_where_no_iso_program_is(tmp_path: Path) -> None:
    environment = _only(tmp_path, "mformat", "mcopy")
    for name in ("one.img", "two.img"):
        done = _write_elsewhere(tmp_path / name, environment)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "one.img").read_bytes() == (tmp_path / "two.img").read_bytes()
    read = subprocess.run(["mtype", "-i", tmp_path / "one.img", "::provisioner.pyz"], capture_output=True, check=True)
    assert read.stdout == FILES["provisioner.pyz"]
    probed = subprocess.run(
        ["blkid", "-o", "value", "-s", "LABEL", tmp_path / "one.img"], capture_output=True, text=True, check=True
    )
    assert probed.stdout.strip().lower() == "cidata"


def test_without_any_program_one_is_named(tmp_path: Path) -> None:
    done = _write_elsewhere(tmp_path / "cidata.img", _only(tmp_path))
    assert "MissingTool" in done.stderr
    assert "apt-get install mtools" in done.stderr
    assert not (tmp_path / "cidata.img").exists()


def test_absent_context_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_cidata({"context.tar": tmp_path / "nowhere"}, tmp_path / "cidata.iso")
    assert list(tmp_path.iterdir()) == []


def test_missing_tool_is_an_error_of_ours() -> None:
    with pytest.raises(MissingTool):
        find("no-such-program-anywhere")
