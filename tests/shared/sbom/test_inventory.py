"""A VM's list of packages, as the host reads it: the newest one, whatever the guest has written."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from provisioner.protocol import INVENTORY, VERIFY
from shared.build.events import Event
from shared.ports import Package
from shared.sbom.documents import Contents
from shared.sbom.inventory import MOST_FOLDERS_READ, Inventory, MeasuredFolder, of_build, read_inventory
from tests.project.source_tree import ROOT
from tests.shared.sbom.checks import checked
from tests.world import values

LINE = "dpkg\tlibc6\t2.36-9\tamd64\tglibc\tGNU Libc Maintainers\t"
LIBC = Package("libc6", "2.36-9", "amd64", "dpkg", "glibc", "GNU Libc Maintainers", "", "debian-12")


def test_fields_are_taken_as_they_stand() -> None:
    text = f"os\tID\tdebian\nos\tVERSION_ID\t12\n{LINE}\ncos-build\tx\t1\t\t\t\t\ncut\t17"
    tool = Package("x", "1", "", "cos", distribution="debian-12", build_time=True)
    assert read_inventory(text, "a note") == Inventory((LIBC, tool), {"ID": "debian", "VERSION_ID": "12"}, 17, "a note")


def test_folders_are_read_and_those_that_are_none_are_counted() -> None:
    good = ["folder\t/\t20\t2", "folder\t/usr/lib\t7\t1"]
    twice, deep, relative = "folder\t/\t1\t1", "folder\t/a/b/c/d\t1\t1", "folder\tusr\t1\t1"
    numbers = ["folder\t/a\t-1\t1", "folder\t/a\t1e9\t1", f"folder\t/a\t{'9' * 16}\t1", "folder\t/a\t1"]
    read = read_inventory("\n".join([*good, twice, deep, relative, *numbers]))
    assert read.folders == (MeasuredFolder("/", 20, 2), MeasuredFolder("/usr/lib", 7, 1))
    assert read.left_out == 2 + len(numbers)
    many = "\n".join(f"folder\t/{number}\t1\t1" for number in range(MOST_FOLDERS_READ + 5))
    assert len(read_inventory(many).folders) == MOST_FOLDERS_READ


def test_the_newest_of_the_building_vm_counts() -> None:
    def told(name: str, **report: Any) -> Event:
        return values.reported(kind=INVENTORY, output=LINE.replace("libc6", name), **report)

    events: list[Event] = [
        values.reported(),
        told("second", attempt=2, sequence=3),
        told("first", attempt=1, sequence=9),
        told("verifying", attempt=3, sequence=1, phase=VERIFY),
        values.cleaned_up(),
    ]
    found = of_build(events)
    assert found is not None
    assert [one.name for one in found.packages] == ["second"]
    assert of_build([values.reported(), values.cleaned_up()]) is None


def test_half_a_character_is_none() -> None:
    """Mended: a report may hold one, and it ended the publication of the image."""
    read = read_inventory("os\tID\tb\ud800\n" + LINE.replace("libc6", "lib\ud800").replace("GNU", "\udfff"), "n\udcff")
    assert (read.packages[0].name, read.note, read.system) == ("lib?", "n?", {"ID": "b?"})
    checked(Contents(read.packages, read.note))


@given(st.text() | st.lists(st.sampled_from(["dpkg", "cos", "os", "cut", "\t", "\n", "x", "9"])).map("".join))
def test_a_guest_may_write_anything(text: str) -> None:
    read = read_inventory(text)
    assert all(one.name and one.version for one in read.packages)
    assert read.left_out >= 0


def test_packages_that_differ_in_anything_have_one_order() -> None:
    """Mended: those that differed in vendor or licence alone came as the hashes of this process fell."""
    program = (
        "from shared.sbom.inventory import read_inventory\n"
        "from shared.sbom.documents import Contents\n"
        "from tests.shared.sbom.checks import checked\n"
        "lines = [f'rpm\\ta\\t1\\tx86_64\\ts\\tv{n % 3}\\tl{n}' for n in range(9)]\n"
        "read = read_inventory('\\n'.join([*lines, 'cos\\ta\\t1\\t\\t\\t\\t', 'cos-build\\ta\\t1\\t\\t\\t\\t']))\n"
        "print([(one.vendor, one.license, one.build_time) for one in read.packages])\n"
        "print(checked(Contents(read.packages)).spdx.decode())\n"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1
