"""What every Compute must do: QEMU and the catalogue on this machine, Compute Engine in the cloud.

A subclass, its name beginning with Test, brings the fixtures `compute` and `site`, where no build has been yet. The
site's image boots into nothing, and stays on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from provisioner.protocol import Job
from shared.build import resources
from shared.build.plan import MachinePlan
from shared.errors import AlreadyExists, GoldsmithError, NotFound, Permanent, Transient
from shared.names import BUILD_LABEL, EXPIRES_LABEL
from shared.ports import Compute, CopyRequest, Image, ImageRequest, MachineRequest, ResourceKind
from tests.world.values import BUILD_ID, plan

IDLE = "idle"
VM, BOOT = f"gs-{BUILD_ID}-a1-vm", f"gs-{BUILD_ID}-a1-boot"
VM_2 = f"gs-{BUILD_ID}-a2-vm"
LICENSES = ("projects/my-project/global/licenses/mine",)
KEY = "ab" * 32


@dataclass(frozen=True)
class Site:
    """Where things are made: IDLE is an image of its project, in a family of that name."""

    project: str
    zones: tuple[str, ...]  # of the plan
    zone: str  # that machines come to be in

    def request(self, attempt: int = 1, **changes: Any) -> MachineRequest:
        """A request for the build VM of an attempt."""
        made = plan(machine=MachinePlan(self.project, self.zones, boot="firmware"))
        default = MachineRequest(
            name=resources.machine_name(BUILD_ID, attempt, "build"),
            boot_disk=resources.boot_disk_name(BUILD_ID, attempt, "build"),
            source_project=self.project,
            source_image=IDLE,
            plan=made.machine,
            labels=resources.labels(made.build_id, attempt, made.requested + made.timeout),
            job=Job(BUILD_ID, attempt, KEY, ()),
            context=None,
            max_seconds=3600.0,
        )
        return replace(default, **changes)

    def image(self, name: str, **changes: Any) -> ImageRequest:
        """A request for an image of the build's boot disk."""
        default = ImageRequest(
            project=self.project,
            name=name,
            source_disk=BOOT,
            source_project=self.project,
            zone=self.zone,
            description="says hello",
            labels={BUILD_LABEL: BUILD_ID},
            licenses=LICENSES,
            architecture="x86_64",
        )
        return replace(default, **changes)


def idle_disk(path: Path) -> Path:
    """A disk whose boot sector halts the processor, and takes none of ours."""
    sector = bytearray(512)
    sector[:4] = b"\xfa\xf4\xeb\xfd"  # cli; hlt; jmp back
    sector[446 + 4] = 0x83
    sector[446 + 8 : 446 + 16] = (2048).to_bytes(4, "little") + (2048).to_bytes(4, "little")
    sector[510:] = b"\x55\xaa"
    path.write_bytes(bytes(sector) + bytes(4 << 20))
    return path


class ComputeContract:
    def test_an_image_is_looked_up_by_name(self, compute: Compute, site: Site) -> None:
        image = compute.image(site.project, IDLE)
        assert image is not None
        assert (image.project, image.name, image.family) == (site.project, IDLE, IDLE)
        assert (image.architecture, image.deprecated, image.labels) == ("x86_64", None, {})
        assert compute.image(site.project, "none") is None

    def test_an_image_of_a_stopped_machines_disk_is_in_no_family(self, compute: Compute, site: Site) -> None:
        make_disk(compute, site)
        before = time.time()
        made = compute.create_image(site.image("hello-1"))
        assert (made.name, made.family, made.source_disk) == ("hello-1", None, BOOT)
        assert (made.labels, made.licenses, made.description) == ({BUILD_LABEL: BUILD_ID}, LICENSES, "says hello")
        assert before - 2 < made.created < time.time() + 2
        assert made.disk_size_gb == 10
        assert compute.image(site.project, "hello-1") == made

    def test_an_image_is_made_once(self, compute: Compute, site: Site) -> None:
        make_disk(compute, site)
        made = compute.create_image(site.image("hello-1"))
        compute.set_family(site.project, "hello-1", "hello")
        again = compute.create_image(site.image("hello-1"))
        assert (again.id, again.family) == (made.id, "hello")

    def test_a_name_that_another_disks_image_has(self, compute: Compute, site: Site) -> None:
        make_disk(compute, site)
        compute.create_image(site.image("hello-1"))
        other = site.request(name=VM.replace("a1", "a3"), boot_disk=BOOT.replace("a1", "a3"))
        make_disk(compute, site, other)
        with pytest.raises(AlreadyExists, match="hello-1"):
            compute.create_image(site.image("hello-1", source_disk=other.boot_disk))

    def test_an_image_is_copied_with_all_that_it_has(self, compute: Compute, site: Site) -> None:
        make_disk(compute, site)
        made = compute.create_image(site.image("hello-1"))
        compute.set_family(site.project, "hello-1", "hello")
        request = CopyRequest(site.project, "hello-1-prod", "hello-1", made.id, 1_900_000_000.0)
        copy = compute.copy_image(request)
        assert (copy.name, copy.family, copy.source_image, made.source_image) == ("hello-1-prod", None, made.id, None)
        told = [(i.description, i.labels, i.licenses, i.architecture, i.disk_size_gb) for i in (copy, made)]
        assert told[0] == told[1]
        compute.set_family(site.project, copy.name, "hello-prod")
        again = compute.copy_image(request)
        assert (again.id, again.family) == (copy.id, "hello-prod")
        assert copy.id != made.id
        assert copy.created >= made.created
        compute.delete("image", "hello-1", site.project, "")
        assert image_of(compute, site, copy.name).source_image == made.id

    def test_what_is_no_copy_of_an_image_stays(self, compute: Compute, site: Site) -> None:
        make_disk(compute, site)
        made = compute.create_image(site.image("hello-1"))
        compute.create_image(site.image("hello-1-prod"))
        with pytest.raises(AlreadyExists, match="hello-1-prod"):
            compute.copy_image(CopyRequest(site.project, "hello-1-prod", "hello-1", made.id, 0.0))
        for source, its_id in (("gone", made.id), ("hello-1", "1")):
            with pytest.raises(NotFound, match=f"image {source} is gone"):
                compute.copy_image(CopyRequest(site.project, "hello-1-dev", source, its_id, 0.0))
        compute.obsolete_image(made, "")
        with pytest.raises(Permanent, match="OBSOLETE"):
            compute.copy_image(CopyRequest(site.project, "hello-1-dev", "hello-1", made.id, 0.0))
        assert compute.image(site.project, "hello-1-dev") is None

    def test_no_disk_no_image(self, compute: Compute, site: Site) -> None:
        with pytest.raises(GoldsmithError, match=BOOT) as caught:
            compute.create_image(site.image("hello-1"))
        assert not isinstance(caught.value, Transient)

    def test_images_are_listed_newest_first_and_deprecated_ones_too(self, compute: Compute, site: Site) -> None:
        make_disk(compute, site)
        for name, family in (("one-1", "one"), ("one-2", "one"), ("two-1", "two")):
            compute.create_image(site.image(name))
            compute.set_family(site.project, name, family)
        compute.deprecate_image(site.project, "one-1", "one-2", None)
        assert [image.name for image in compute.images(site.project)] == ["two-1", "one-2", "one-1", IDLE]
        assert [image.name for image in compute.images(site.project, family="one")] == ["one-2", "one-1"]
        assert [image.name for image in compute.images(site.project, prefix="two")] == ["two-1"]
        assert [image.name for image in compute.images(site.project, family="one", prefix="one-2")] == ["one-2"]
        assert not compute.images(site.project, family="none")

    def test_labels_are_replaced_and_the_family_is_joined_and_left(self, compute: Compute, site: Site) -> None:
        make_disk(compute, site)
        made = image = compute.create_image(site.image("hello-1"))
        seen = []
        for family in ("hello", "hello", None, None, "hello"):
            compute.set_family(site.project, "hello-1", family)
            compute.label_image(image, {"team": "infra"})
            found = compute.image(site.project, "hello-1")
            assert found is not None
            image = found
            seen.append((image.labels, image.family))
        with pytest.raises(Transient, match="changed meanwhile"):
            compute.label_image(made, {"team": "another"})
        assert compute.image(site.project, "hello-1") == image
        assert seen == [({"team": "infra"}, family) for family in ("hello", "hello", None, None, "hello")]

    def test_deprecation_names_a_replacement_and_a_time(self, compute: Compute, site: Site) -> None:
        make_disk(compute, site)
        compute.create_image(site.image("hello-1"))
        for _ in range(2):
            compute.deprecate_image(site.project, "hello-1", IDLE, 1_900_000_000.0)
        image = compute.image(site.project, "hello-1")
        assert image is not None
        assert (image.deprecated, image.replacement, image.deletes_at) == ("DEPRECATED", IDLE, 1_900_000_000.0)

    def test_an_image_becomes_obsolete_while_another_one_is_active(self, compute: Compute, site: Site) -> None:
        make_disk(compute, site)
        made = [compute.create_image(site.image(name)) for name in ("one-1", "one-2")]
        for image in made:
            compute.set_family(site.project, image.name, "one")
        compute.deprecate_image(site.project, "one-1", "one-2", 1_900_000_000.0)
        first, second = (image_of(compute, site, image.name) for image in made)
        with pytest.raises(Transient, match="image one-1 is no active image of family one any more"):
            compute.obsolete_image(second, "one-1")
        with pytest.raises(Transient, match="changed meanwhile"):
            compute.activate_image(replace(first, replacement="another"))
        for _ in range(2):
            compute.activate_image(first)
        first = image_of(compute, site, "one-1")
        assert (first.deprecated, first.replacement, first.deletes_at) == (None, None, None)
        for _ in range(2):
            compute.obsolete_image(second, "one-1")
        compute.deprecate_image(site.project, "one-2", IDLE, None)
        with pytest.raises(Transient, match="changed meanwhile"):
            compute.activate_image(second)
        second = image_of(compute, site, "one-2")
        assert (second.deprecated, second.replacement, second.family) == ("OBSOLETE", "one-1", "one")
        with pytest.raises(Transient, match="changed meanwhile"):
            compute.obsolete_image(replace(first, deprecated="DEPRECATED"), "")
        compute.obsolete_image(first, "")
        assert image_of(compute, site, "one-1").deprecated == "OBSOLETE"

    def test_an_image_that_is_gone_is_not_found(self, compute: Compute, site: Site) -> None:
        with pytest.raises(NotFound, match="gone"):
            compute.label_image(Image(site.project, "gone", "1", 0.0), {})
        with pytest.raises(NotFound, match="gone"):
            compute.set_family(site.project, "gone", "hello")
        with pytest.raises(NotFound, match="gone"):
            compute.deprecate_image(site.project, "gone", IDLE, None)
        with pytest.raises(NotFound, match="gone"):
            compute.activate_image(Image(site.project, "gone", "1", 0.0))
        with pytest.raises(NotFound, match="gone"):
            compute.obsolete_image(Image(site.project, "gone", "1", 0.0), "")

    def test_what_is_absent_is_deleted_already(self, compute: Compute, site: Site) -> None:
        things: tuple[tuple[ResourceKind, str], ...] = (("machine", VM), ("disk", BOOT), ("image", "hello-1"))
        for kind, name in things:
            compute.delete(kind, name, site.project, site.zone)
        assert compute.machine(VM, site.project, site.zone) is None
        assert compute.wait_until_stopped(VM, site.project, site.zone, 60.0)
        with pytest.raises(NotFound, match=VM):
            compute.serial_output(VM, site.project, site.zone, 1, 0)

    def test_a_machine_is_made_once_and_found_in_its_zone(self, compute: Compute, site: Site) -> None:
        assert compute.create_machine(site.request()) == site.zone
        assert compute.create_machine(site.request()) == site.zone
        for zone in (site.zone, ""):
            machine = compute.machine(VM, site.project, zone)
            assert machine is not None
            assert (machine.name, machine.zone, machine.status, machine.how) == (VM, site.zone, "running", None)
        assert not compute.wait_until_stopped(VM, site.project, site.zone, 0.5)
        found = [(each.kind, each.name, each.zone) for each in compute.labelled(site.project)]
        assert found == [("machine", VM, site.zone), ("disk", BOOT, site.zone)]
        labels = site.request().labels
        told = {(each.build_id, each.expires) for each in compute.labelled(site.project)}
        assert told == {(BUILD_ID, float(labels[EXPIRES_LABEL]))}

    def test_serial_output_goes_on_where_it_ended(self, compute: Compute, site: Site) -> None:
        compute.create_machine(site.request())
        whole, end = compute.serial_output(VM, site.project, site.zone, 1, 0)
        assert len(whole) == end > 0
        assert compute.serial_output(VM, site.project, site.zone, 1, 10) == (whole[10:], end)
        assert compute.serial_output(VM, site.project, site.zone, 1, end) == (b"", end)
        assert compute.serial_output(VM, site.project, site.zone, 3, 0) == (b"", 0)

    def test_the_disk_outlives_its_machine_and_the_next_one_has_it(self, compute: Compute, site: Site) -> None:
        compute.create_machine(site.request())
        compute.delete("machine", VM, site.project, site.zone)
        assert compute.machine(VM, site.project, site.zone) is None
        assert [(each.kind, each.name) for each in compute.labelled(site.project)] == [("disk", BOOT)]
        assert compute.create_machine(site.request(2, source_image="gone")) == site.zone
        machine = compute.machine(VM_2, site.project, site.zone)
        assert machine is not None
        assert machine.status == "running"
        compute.delete("machine", VM_2, site.project, site.zone)
        compute.delete("disk", BOOT, site.project, site.zone)
        assert list(compute.labelled(site.project)) == []

    def test_a_source_that_is_not_there_makes_nothing(self, compute: Compute, site: Site) -> None:
        with pytest.raises(GoldsmithError, match="gone") as caught:
            compute.create_machine(site.request(source_image="gone"))
        assert not isinstance(caught.value, Transient)
        assert list(compute.labelled(site.project)) == []

    def test_an_obsolete_source_makes_nothing(self, compute: Compute, site: Site) -> None:
        compute.obsolete_image(image_of(compute, site, IDLE), "")
        with pytest.raises(Permanent, match="OBSOLETE"):
            compute.create_machine(site.request())
        assert list(compute.labelled(site.project)) == []

    def test_a_disk_grows_once_while_its_machine_runs(self, compute: Compute, site: Site) -> None:
        compute.create_machine(site.request())
        for _ in range(2):
            compute.grow_disk(BOOT, site.project, site.zone, 12)
        machine = compute.machine(VM, site.project, site.zone)
        assert machine is not None
        assert machine.status == "running"
        compute.delete("machine", VM, site.project, site.zone)
        assert compute.create_image(site.image("hello-1")).disk_size_gb == 12

    def test_a_disk_grows_without_a_machine_and_is_never_made_smaller(self, compute: Compute, site: Site) -> None:
        make_disk(compute, site)
        for gigabytes in (12, 11):
            compute.grow_disk(BOOT, site.project, site.zone, gigabytes)
        assert compute.create_image(site.image("hello-1")).disk_size_gb == 12

    def test_a_disk_that_is_not_there_does_not_grow(self, compute: Compute, site: Site) -> None:
        with pytest.raises(NotFound, match=BOOT):
            compute.grow_disk(BOOT, site.project, site.zone, 12)

    def test_a_scratch_disk_goes_with_its_machine(self, compute: Compute, site: Site) -> None:
        """install-gpu: with it, the machine has a blank disk of 10 GB, which no image is made of."""
        request = site.request(scratch_disk=BOOT.replace("boot", "scratch"))
        compute.create_machine(replace(request, plan=replace(request.plan, scratch_gb=10)))
        compute.delete("machine", VM, site.project, site.zone)
        assert [(each.kind, each.name) for each in compute.labelled(site.project)] == [("disk", BOOT)]


def make_disk(compute: Compute, site: Site, request: MachineRequest | None = None) -> None:
    """Leave the boot disk of a machine that is gone."""
    asked = request or site.request()
    compute.create_machine(asked)
    compute.delete("machine", asked.name, site.project, site.zone)


def image_of(compute: Compute, site: Site, name: str) -> Image:
    """An image that is there."""
    found = compute.image(site.project, name)
    assert found is not None
    return found
