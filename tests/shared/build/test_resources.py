"""Names and ledger entries: a function of the build alone."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from shared.build import resources
from shared.build.build import LedgerEntry
from shared.build.orders import ORDER_KINDS
from shared.build.plan import Plan
from tests.world import values

LONGEST_ID = "n" * 32 + "-" + "0" * 12


def exporting(target: str) -> Plan:
    plan = values.plan()
    return replace(plan, image=replace(plan.image, export_to=target))


@pytest.mark.parametrize("phase", ["build", "verify", "export"])
def test_names_are_what_compute_engine_takes(phase: str) -> None:
    for name in (resources.machine_name(LONGEST_ID, 99, phase), resources.boot_disk_name(LONGEST_ID, 99, phase)):
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name)


def test_names_of_all_attempts_and_phases_differ_but_for_the_disk_that_is_gone_on_with() -> None:
    machines = {resources.machine_name("b", attempt, phase) for attempt in (1, 2, 11) for phase in ("build", "verify")}
    assert len(machines) == 6
    assert resources.boot_disk_name("b", 1, "build") == resources.boot_disk_name("b", 2, "build")
    assert resources.boot_disk_name("b", 1, "verify") != resources.boot_disk_name("b", 2, "verify")


def test_the_disk_of_the_vm_that_writes_files_is_none_that_compute_engine_refuses() -> None:
    plan = replace(exporting("gs://b/x.tar.gz"), exporter=replace(values.plan().source, disk_size_gb=10))
    assert resources.exporter_gb(plan) == 10
    extreme = replace(plan, machine=replace(plan.machine, disk_type="hyperdisk-extreme"))
    assert resources.exporter_gb(extreme) == 64


def test_labels_say_whose_and_until_when() -> None:
    assert resources.labels(values.BUILD_ID, 2, values.NOON + values.plan().timeout) == {
        "goldsmith-build": values.BUILD_ID,
        "goldsmith-attempt": "2",
        "goldsmith-expires": str(int(values.NOON + 3600 + 3600)),
    }


def test_what_each_order_may_make() -> None:
    plan = exporting("out/hello.tar.gz")
    made = {kind: [entry.kind for entry in resources.of_order(plan, kind, 1)] for kind in ORDER_KINDS}
    assert made == {
        "create_resources": ["machine", "disk"],
        "verify_image": ["machine", "disk"],
        "grow_disk": [],
        "export_image": ["image", "object"],
        "label_image": ["object"] * 3,
        "deprecate_images": [],
        "clean_up": [],
        "announce": [],
    }
    assert [entry.kind for entry in resources.of_order(values.plan(), "export_image", 1)] == ["image"]
    assert resources.of_order(values.plan(), "label_image", 1) == ()
    assert [entry.name for entry in resources.of_order(plan, "label_image", 1)] == [
        f"out/.{values.BUILD_ID}.hello.{end}" for end in ("json", "spdx.json", "cdx.json")
    ]


@pytest.mark.parametrize(
    ("target", "staged", "manifest"),
    [
        ("gs://b/hello.tar.gz", f"gs://b/.{values.BUILD_ID}.hello.tar.gz", "gs://b/hello.json"),
        ("gs://b/f/hello.tar.gz", f"gs://b/f/.{values.BUILD_ID}.hello.tar.gz", "gs://b/f/hello.json"),
        ("/out/hello.tar.gz", f"/out/.{values.BUILD_ID}.hello.tar.gz", "/out/hello.json"),
        ("hello.tar.gz", f".{values.BUILD_ID}.hello.tar.gz", "hello.json"),
        ("/hello.image", f"/.{values.BUILD_ID}.hello.image", "/hello.image.json"),
        ("/out.tar.gz/x", f"/out.tar.gz/.{values.BUILD_ID}.x", "/out.tar.gz/x.json"),
    ],
)
def test_names_of_an_archive(target: str, staged: str, manifest: str) -> None:
    assert resources.staged_export(exporting(target)) == staged
    assert resources.manifest_of(target) == manifest


def test_the_same_thing_is_known_by_kind_project_and_name() -> None:
    entry = LedgerEntry("disk", "one", "local")
    assert resources.is_in(entry, [replace(entry, zone="here", keep=True)])
    for other in (replace(entry, kind="machine"), replace(entry, name="two"), replace(entry, project="other")):
        assert not resources.is_in(entry, [other])


def test_where_a_bill_of_materials_is() -> None:
    told = values.build(result="gs://b/results/team/hello-1.json")
    untold = values.build()
    assert resources.results_stem(told, "logs/x") == "gs://b/results/team/hello-1"
    assert resources.results_stem(untold, "logs/x") == "logs/x/hello-20261120"
    assert resources.sbom_names(resources.archive_stem("/out/hello.tar.gz")) == (
        "/out/hello.spdx.json",
        "/out/hello.cdx.json",
    )


def test_names_of_files_in_other_formats() -> None:
    plan = exporting("/out/hello.tar.gz")
    plan = replace(plan, image=replace(plan.image, formats=("qcow2-compressed", "tar.zst", "gce")))
    assert resources.export_targets(plan) == {
        "qcow2-compressed": "/out/hello.qcow2",
        "tar.zst": "/out/hello.rootfs.tar.zst",
        "gce": "/out/hello.tar.gz",
    }
    assert [entry.name for entry in resources.of_order(plan, "export_image", 1)[1:]] == [
        f"/out/.{values.BUILD_ID}.hello.{end}" for end in ("qcow2", "rootfs.tar.zst", "tar.gz")
    ]
    assert [entry.name for entry in resources.of_order(plan, "label_image", 1)[3:]] == [
        f"/out/.{values.BUILD_ID}.hello.{end}.sha256" for end in ("qcow2", "rootfs.tar.zst", "tar.gz")
    ]
