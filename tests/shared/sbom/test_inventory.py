"""A VM's list of packages, as the host reads it: the newest one, whatever the guest has written."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from provisioner.protocol import INVENTORY, VERIFY
from shared.build.events import Event
from shared.ports import Package
from shared.sbom.inventory import Inventory, of_build, read_inventory
from tests.world import values

LINE = "dpkg\tlibc6\t2.36-9\tamd64\tglibc\tGNU Libc Maintainers\t"
LIBC = Package("libc6", "2.36-9", "amd64", "dpkg", "glibc", "GNU Libc Maintainers", "", "debian-12")


def test_fields_are_taken_as_they_stand() -> None:
    text = f"os\tID\tdebian\nos\tVERSION_ID\t12\n{LINE}\ncos-build\tx\t1\t\t\t\t\ncut\t17"
    tool = Package("x", "1", "", "cos", distribution="debian-12", build_time=True)
    assert read_inventory(text, "a note") == Inventory((LIBC, tool), {"ID": "debian", "VERSION_ID": "12"}, 17, "a note")


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


@given(st.text() | st.lists(st.sampled_from(["dpkg", "cos", "os", "cut", "\t", "\n", "x", "9"])).map("".join))
def test_a_guest_may_write_anything(text: str) -> None:
    read = read_inventory(text)
    assert all(one.name and one.version for one in read.packages)
    assert read.left_out >= 0
