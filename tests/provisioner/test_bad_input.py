"""Bad input of any kind: the provisioner prints what is wrong, does nothing, and turns the machine off."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from provisioner.protocol import FAILED
from tests.provisioner.provisioning import Provisioning, job, script


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"{}", b"null", b"{" * 100_000, b'{"build_id": 1}'])
def test_a_bad_job_is_told_on_the_console(tmp_path: Path, data: bytes) -> None:
    machine = Provisioning(tmp_path / "m", job())
    (machine.cidata / "job.json").write_bytes(data)
    ended = machine.run()
    assert ended.status == 1
    assert ended.console.startswith(f"goldsmith: {machine.cidata}/job.json: ")
    assert "Traceback" not in ended.console


def test_an_absent_job_is_told_on_the_console(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job())
    (machine.cidata / "job.json").unlink()
    ended = machine.run()
    assert (ended.status, "No such file or directory" in ended.console) == (1, True)


def test_a_state_that_cannot_be_made_is_told_on_the_console(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job())
    (machine.root / "var").write_text("a file")
    ended = machine.run()
    assert (ended.status, "Not a directory" in ended.console) == (1, True)


@pytest.mark.parametrize("arguments", [[], ["--cidata"], ["--cidata", "x", "--what", "y"], ["x"]])
def test_wrong_arguments_are_explained(tmp_path: Path, arguments: list[str]) -> None:
    pyz = Provisioning(tmp_path / "m", job()).cidata / "provisioner.pyz"
    ended = subprocess.run([sys.executable, pyz, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "--cidata DIR" in ended.stderr


def archive_of(*members: tuple[str, bytes, str]) -> bytes:
    """Make a tar archive of members of any kind, which may lead anywhere."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, kind, target in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (archive_of(("../x", tarfile.REGTYPE, "")), "'../x' leads out of the context"),
        (archive_of(("/x", tarfile.REGTYPE, "")), "'/x' leads out of the context"),
        (archive_of(("x", tarfile.CHRTYPE, "")), "'x' is neither a file, a folder nor a link"),
        (archive_of(("x", tarfile.LNKTYPE, "/etc/passwd")), "'x' is neither a file, a folder nor a link"),
        (archive_of(("x", tarfile.SYMTYPE, ".."), ("x/y", tarfile.REGTYPE, "")), "'x/y' lies behind a link"),
        (b"garbage" * 100, "context.tar is damaged"),
        (archive_of(("x", tarfile.REGTYPE, ""))[:300], "in the middle of a header"),
    ],
)
def test_a_bad_context_fails_the_job(tmp_path: Path, data: bytes, why: str) -> None:
    machine = Provisioning(tmp_path / "m", job(script("ok")), {"ok": "true"})
    (machine.cidata / "context.tar").write_bytes(data)
    assert machine.run().status == 1
    assert machine.kinds() == [FAILED]
    assert why in machine.reports()[0].message
    assert not (machine.root / "x").exists()
