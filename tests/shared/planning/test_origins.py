"""Roots from nothing on Google Cloud: the plan of their VM, what makes two the same, what is refused before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from provisioner.protocol import Job, decode_job, encode
from shared.build import resources
from shared.build.events import BuildRequested, read_event, to_json
from shared.build.plan import Context, Plan, SourceImage
from shared.errors import InputError
from shared.host.programs import PACKAGES
from shared.planning.origins import MAKER_PROGRAMS, PROGRAMS_OF, check_origin, plan_origin
from shared.planning.plan import make_plan
from shared.spec.model import Spec
from tests.shared.spec.reading import read_spec

MAKER = SourceImage("debian-cloud", "debian-12-bookworm-v20261101", "4711", family="debian-12")
CONTEXT = Context("gs://b/contexts/c.tar", "c0" * 32, 10240)
NOON = 1795176000.0
GREET = "[{name: greet, action: run-script, inputs: {script: greet.sh}}]"
ROOTFS = "source: {rootfs: base/root.tar}\ncontext: .\n"
BOOTSTRAP = "source: {bootstrap: {distribution: debian, release: bookworm, packages: [nginx]}}\n"
ELEMENTS = """source: {elements: {elements: [debian-minimal, app]}}
context: .
"""
RUN = "[{name: elements, action: elements}]"
LVM = """disk:
  - local_loop: {name: image0}
  - partitioning:
      base: image0
      label: gpt
      partitions: [{name: bios, type: EF02, size: 8MiB}, {name: root, size: 100%}]
  - lvm: {name: lvm, pvs: [{name: pv, base: root}], vgs: [{name: vg, base: [pv]}],
          lvs: [{name: lv, base: vg, extents: 100%FREE}]}
  - mkfs: {base: lv, mount: {mount_point: /}}
"""
PLAIN_DISK = "disk: filesystem\n"
SIZED_DISK = """disk:
  - local_loop: {name: image0, size: 5GiB}
  - partitioning:
      base: image0
      label: mbr
      partitions: [{name: root, flags: [boot, primary], size: 100%, mkfs: {mount: {mount_point: /}}}]
"""


def spec(text: str, steps: str = GREET) -> Spec:
    return read_spec(f"name: made\n{text}steps: {steps}\n", "build.yaml")


def planned(asked: Spec, *, at: float = NOON, context: Context | None = CONTEXT, version: str = "v1") -> Plan:
    source, origin = plan_origin(asked, MAKER, context, at, version)
    values: dict[str, Any] = {"request": "bucket/specs/build.yaml/1", "requested": at, "provisioner_version": "p1"}
    return make_plan(asked, source=source, context=context, origin=origin, **values)


def test_the_steps_run_between_what_the_vm_does_itself() -> None:
    plan = planned(spec(ROOTFS))
    assert [(step.name, step.action) for step in plan.steps] == [
        ("install programs", "install-programs"),
        ("create root", "make-root"),
        ("greet", "run-script"),
        ("write root", "write-root"),
    ]
    assert plan.steps[1].reads == ("base/root.tar",)  # the VM unpacks no more of the context than that
    assert (plan.image.disk_size_gb, plan.machine.disk_size_gb, plan.machine.engine) == (10, 30, "vm")
    assert plan.image.description == f"Made from nothing: {plan.source.name}."
    assert plan.image.labels["goldsmith-source"] == plan.source.name
    job = Job("made-0123456789ab", 1, "00", plan.steps, makes_root=True)
    assert encode(decode_job(encode(job))) == encode(job)


def test_a_plan_is_read_back_as_it_was_written() -> None:
    plan = planned(spec(SIZED_DISK + BOOTSTRAP + "verify: {}\n"))
    event = BuildRequested(build_id=plan.build_id, event_id="request", time=NOON, plan=plan)
    assert to_json(read_event(to_json(event))) == to_json(event)


def test_the_second_disk_is_in_the_ledger_of_each_attempt() -> None:
    plan = planned(spec(ROOTFS))
    for attempt in (1, 2):
        names = [entry.name for entry in resources.of_order(plan, "create_resources", attempt)]
        assert names == [
            f"gs-{plan.build_id}-a{attempt}-vm",
            f"gs-{plan.build_id}-a1-boot",
            f"gs-{plan.build_id}-a{attempt}-root",
        ]
        assert resources.image_disk_name(plan, attempt) == names[-1]
    assert not [entry for entry in resources.of_order(plan, "verify_image", 1) if entry.name.endswith("-root")]


@pytest.mark.parametrize(
    ("text", "image_gb"), [(ROOTFS, 10), (ROOTFS + "output: {disk_size_gb: 25}\n", 25), (SIZED_DISK + ROOTFS, 5)]
)
def test_the_size_is_the_spec_s_else_the_usual_one(text: str, image_gb: int) -> None:
    plan = planned(spec(text))
    assert plan.origin is not None
    assert (plan.image.disk_size_gb, plan.origin.disk_size_gb) == (image_gb, image_gb)
    assert plan.machine.disk_size_gb == MAKER.disk_size_gb + 2 * image_gb


def digests(text: str, steps: str = GREET, **changes: Any) -> tuple[str, str]:
    asked = spec(text, steps)
    return planned(asked).content_digest, planned(asked, **changes).content_digest


@pytest.mark.parametrize(("text", "steps"), [(BOOTSTRAP, "[]"), (ELEMENTS, RUN)])
def test_what_is_fetched_is_never_unchanged(text: str, steps: str) -> None:
    """`rebuild: changed` may not skip a build whose mirror has moved, and nothing here has asked the mirror."""
    first, later = digests(text, steps, at=NOON + 1)
    assert first != later
    assert len(set(digests(text, steps))) == 1, "the same request, delivered twice, is the same build"


def test_an_archive_is_known_by_its_content() -> None:
    assert len(set(digests(ROOTFS, at=NOON + 1))) == 1
    assert len(set(digests(ROOTFS, version="v2"))) == 2
    assert len(set(digests(ROOTFS, context=replace(CONTEXT, digest="d0" * 32)))) == 2
    other = planned(spec(ROOTFS + "output: {disk_size_gb: 25}\n")).content_digest
    assert other != digests(ROOTFS)[0]


def test_the_maker_image_does_not_decide_what_is_made() -> None:
    first, _ = plan_origin(spec(ROOTFS), MAKER, CONTEXT, NOON, "v1")
    second, _ = plan_origin(spec(ROOTFS), replace(MAKER, id="4712", name="debian-12-v2"), CONTEXT, NOON, "v1")
    assert first.id == second.id


def test_files_are_found_where_the_context_has_them() -> None:
    assert check_origin(spec("source: {oci: files/image}\ncontext: files\n")).place == "image"
    keyed = BOOTSTRAP.replace("[nginx]", "[], keyring: keys.gpg")
    assert check_origin(spec(keyed + "context: .\n")).place == "keys.gpg"
    imaged = ELEMENTS.replace("app]", "app], env: {DIB_LOCAL_IMAGE: cloud.qcow2}")
    plan = planned(spec(imaged, RUN))
    assert (plan.steps[1].reads, plan.steps[0].inputs["packages"]["qemu-img"]) == (("cloud.qcow2",), "qemu-utils")


@pytest.mark.parametrize(
    ("text", "steps", "why"),
    [
        ("source: {rootfs: root.tar}\n", "[]", "source.rootfs: its files travel in the context.*context: ."),
        ("source: {rootfs: ../root.tar}\ncontext: .\n", GREET, "lies outside of the context"),
        ("source: {rootfs: /root.tar}\ncontext: .\n", GREET, "put it into the context's folder"),
        ("source: {rootfs: 'gs://bucket/root.tar'}\ncontext: .\n", GREET, "put it into the context's folder"),
        ("source: {oci: image}\ncontext: files\n", GREET, r"source.oci: image lies outside of the context, files"),
        (LVM + ROOTFS, GREET, "disk: the root is on LVM.*one ext4 file system"),
        (PLAIN_DISK + ROOTFS + "verify: {}\n", GREET, "verify: boots the image, and its disk has no place"),
        (
            BOOTSTRAP.replace("nginx]", "nginx], variant: minbase") + "verify: {}\n",
            "[]",
            "variant minbase has no kernel; write variant: cloud, add packages such as .* cloud-init and python3, or",
        ),
        (
            BOOTSTRAP.replace("nginx]", "nginx], architecture: arm64"),
            "[]",
            "source.bootstrap.architecture: .* made for x86_64 alone; build for arm64 on one machine, or begin from",
        ),
        (
            ROOTFS + "verify: {}\nbuild: {machine_type: n4-standard-2}\n",
            GREET,
            "verify: n4-standard-2 boots images with GVNIC alone, .* write GVNIC in output.guest_os_features if",
        ),
        (ROOTFS + "output: {reproducible: true}\n", GREET, "output.reproducible: only one machine"),
        (ROOTFS, "[{name: again, action: reboot}]", r"step 'again' \(reboot\) needs a booted system"),
        (ROOTFS + "output: {oem_size: 500M, disk_size_gb: 12}\n", GREET, "output.oem_size needs a booted system"),
    ],
)
def test_what_no_maker_vm_can_make_is_refused_before(text: str, steps: str, why: str) -> None:
    asked = spec(text, steps)
    with pytest.raises(InputError, match=f"(?s){why}"):
        planned(asked)


@pytest.mark.parametrize(
    "text",
    [
        ROOTFS + "verify: {}\noutput: {guest_os_features: [GVNIC]}\n",
        ROOTFS,
        BOOTSTRAP + "context: .\nverify: {}\n",  # whose kernel is known to have the driver
    ],
)
def test_a_later_machine_may_verify_what_has_its_network_driver(text: str) -> None:
    assert planned(spec(text + "build: {machine_type: n4-standard-2}\n")).machine.machine_type == "n4-standard-2"


@pytest.mark.parametrize("packages", ["[linux-image-cloud-amd64]", "[linux-generic]"])
def test_a_bare_bootstrap_with_a_kernel_may_be_verified(packages: str) -> None:
    text = BOOTSTRAP.replace("[nginx]", f"{packages}, variant: minbase") + "verify: {}\n"
    assert planned(spec(text, "[]")).origin is not None


def test_each_program_comes_from_the_package_that_errors_name() -> None:
    for known in (MAKER_PROGRAMS, *PROGRAMS_OF.values()):
        named = {name: package for name, package in known.items() if not name.startswith("/")}
        assert named == {name: PACKAGES[name] for name in named}
