"""A machine that is to export a disk asks for it, until it is there."""

from __future__ import annotations

from pathlib import Path

from provisioner.job.given_disk import await_disk
from provisioner.protocol import DISK_WANTED


class Told:
    """What was reported."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def record(self, kind: str, **_facts: object) -> None:
        self.kinds.append(kind)


def machine(folder: Path) -> Path:
    (folder / "sys/block").mkdir(parents=True)
    (folder / "dev/disk/by-id").mkdir(parents=True)
    return folder / "dev/disk/by-id/google-export"


def test_it_is_asked_for_until_it_is_there(tmp_path: Path) -> None:
    link, disk = machine(tmp_path), tmp_path / "disk.raw"
    disk.touch()

    class Heard(Told):
        """The disk is attached when it has been asked for twice."""

        def record(self, kind: str, **facts: object) -> None:
            super().record(kind, **facts)
            if len(self.kinds) == 2:
                link.symlink_to(disk)

    told = Heard()
    assert await_disk(told, str(tmp_path), 60.0, 0.4) == ""  # type: ignore[arg-type]  # all that it asks of a journal
    assert told.kinds == [DISK_WANTED] * 2
    assert await_disk(told, str(tmp_path)) == ""  # type: ignore[arg-type]  # as above: it is there


def test_and_given_up_when_it_does_not_come(tmp_path: Path) -> None:
    machine(tmp_path)
    problem = await_disk(Told(), str(tmp_path), 0.3, 0.1)  # type: ignore[arg-type]  # as above
    assert problem.startswith("the disk of the image was not attached for 0.3 s")


def test_the_disk_of_a_direct_boot_is_known_by_its_controller(tmp_path: Path) -> None:
    machine(tmp_path)
    device = tmp_path / "sys/block/nvme1n1/device"
    device.mkdir(parents=True)
    (device / "serial").write_text("goldsmith-export    \n")
    told = Told()
    assert await_disk(told, str(tmp_path), 1.0) == ""  # type: ignore[arg-type]  # as above
    assert told.kinds == []
