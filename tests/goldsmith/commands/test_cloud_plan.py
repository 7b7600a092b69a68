"""goldsmith plan --project: the plan, its quota, its estimate, and prices from a file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from goldsmith.commands.cloud_plan import plan_in, prices_from
from shared.build.cost.list_prices import LIST_PRICES
from shared.errors import InputError
from shared.gcp.identities import GoogleIdentities
from shared.ports import Image
from shared.runtime.terminal import CloudClient
from shared.spec.model import Spec
from shared.spec.read import check_file, parse_file
from tests.world.fakes import FakeClock, FakeCompute, MemoryBus
from tests.world.memory_bucket import MemoryBucket
from tests.world.memory_store import MemoryStore
from tests.world.tokens import DEPLOYMENT
from tests.world.values import NOON, ended_build

SPEC = """\
name: hello
source: {project: my-images, family: debian-12}
context: .
steps: [{name: greet, action: run-script, inputs: {script: greet.sh}}]
output: {family: hello}
"""


@pytest.fixture
def client() -> CloudClient:
    clock, bucket = FakeClock(), MemoryBucket()
    compute = FakeCompute(clock, bucket)
    compute.all_images["debian-12-1"] = Image("my-images", "debian-12-1", "4711", NOON, family="debian-12")
    people = GoogleIdentities(DEPLOYMENT, "http://127.0.0.1:9/")
    return CloudClient("bucket", MemoryStore(), bucket, MemoryBus(), clock, compute, people, compute, "my-project")  # type: ignore[arg-type]  # of the memory's


def spec_in(folder: Path, text: str = SPEC) -> Spec:
    (folder / "greet.sh").write_text("echo hello\n")
    (folder / "hello.yaml").write_text(text)
    return check_file(parse_file(folder / "hello.yaml"), {}, {}, None).builds[0].spec


def test_plan_is_of_the_project_with_quota_time_and_cost(client: CloudClient, tmp_path: Path) -> None:
    earlier = [ended_build()]
    planned = plan_in(spec_in(tmp_path), tmp_path, client, earlier, "my-project", "asked")
    made = planned.plan
    assert (made.image.project, made.machine.project, made.source.name) == ("my-project", "my-project", "debian-12-1")
    assert made.machine.zones == ("us-central1-a",)  # of the earlier build
    document = replace(planned, unchanged="hello-1").to_json()
    assert document["image"]["family"] == "hello"
    assert document["unchanged"] == "hello-1"
    assert document["quota"] == {"CPUS": 1, "DISKS_TOTAL_GB": 10}
    assert document["estimate"]["builds"] == 1
    assert document["estimate"]["usage"]["dollars"] > 0
    lines = planned.lines()
    assert "machine:   n1-standard-1, 10 GB pd-standard, in us-central1" in lines
    assert any(line.startswith("cost:      $0.") for line in lines)
    assert any(line.startswith("time:      540 s (") for line in lines)


def test_plan_without_earlier_builds_says_what_it_does_not_know(client: CloudClient, tmp_path: Path) -> None:
    planned = plan_in(spec_in(tmp_path), tmp_path, client, [], "my-project", "asked")
    lines = planned.lines()
    assert "time:      not known: no build of this spec or its family has succeeded here" in lines
    assert "cost:      not known, as its time" in lines
    assert planned.to_json()["estimate"]["usage"] is None


def test_plan_says_in_order_what_is_made_and_what_has_to_be_granted(client: CloudClient, tmp_path: Path) -> None:
    compute = client.compute
    assert isinstance(compute, FakeCompute)
    compute.all_images["debian-12-2"] = Image("debian-cloud", "debian-12-2", "4712", NOON, family="debian-12")
    text = SPEC + "verify: {steps: []}\n"
    text = text.replace("family: debian-12", "image: debian-12-1")
    text = text.replace("output: {family: hello}", "output: {family: hello, name: hello-1, export: {to: gs://files/}}")
    planned = plan_in(spec_in(tmp_path, text), tmp_path, client, [ended_build()], "my-project", "asked")
    lines = planned.lines()
    start = next(number for number, line in enumerate(lines) if line.startswith("makes:"))
    assert [line[11:] for line in lines[start : start + 6]] == [
        "VM gs-BUILD-a1-vm, n1-standard-1, 10 GB pd-standard",
        "image hello-1, 10 GB, in no family yet",
        "VM gs-BUILD-a1-export, n1-standard-1, 10 GB pd-standard",
        "gs://files/hello-1.tar.gz",
        "VM gs-BUILD-a1-verify, n1-standard-1, 12 GB pd-standard",
        "image hello-1 joins family hello",
    ]
    assert [(grant["key"], grant["variable"]) for grant in planned.to_json()["permissions"]] == [
        ("source", "source_projects"),
        ("output.export", "export_buckets"),
    ]
    mail = "goldsmith-start-build@my-project.iam.gserviceaccount.com"
    command = f"projects add-iam-policy-binding my-images --member=serviceAccount:{mail} --role=roles/compute.imageUser"
    assert f"{' ' * 13}gcloud {command}" in lines
    assert planned.to_json()["quota"]["DISKS_TOTAL_GB"] == 10 + 10 + 10 + 12


def test_a_root_from_nothing_is_planned_with_the_vm_that_makes_it(client: CloudClient, tmp_path: Path) -> None:
    compute = client.compute
    assert isinstance(compute, FakeCompute)
    compute.all_images["debian-12-2"] = Image("debian-cloud", "debian-12-2", "4712", NOON, family="debian-12")
    (tmp_path / "root.tar.gz").write_bytes(b"root")
    text = SPEC.replace("{project: my-images, family: debian-12}", "{rootfs: root.tar.gz}")
    first, again = (
        plan_in(spec_in(tmp_path, text), tmp_path, client, [], "my-project", asked) for asked in ("one", "other")
    )
    assert first.plan.content_digest == again.plan.content_digest
    assert [step.name for step in first.plan.steps] == ["install programs", "create root", "greet", "write root"]
    [made_of] = [line for line in first.lines() if line.startswith("from:")]
    assert made_of.endswith("a root from nothing (rootfs), 10 GB, made by a VM of debian-cloud/debian-12-2")
    assert first.to_json()["quota"]["DISKS_TOTAL_GB"] == 10 + 2 * 10 + 10
    fetched = text.replace("{rootfs: root.tar.gz}", "{bootstrap: {distribution: debian, release: bookworm}}")
    assert plan_in(spec_in(tmp_path, fetched), tmp_path, client, [], "my-project", "x").notes == (
        "the digest of a root that is fetched is another one each time",
    )


def test_elements_of_steps_are_in_the_digest_as_in_that_of_the_build(client: CloudClient, tmp_path: Path) -> None:
    element = tmp_path / "elements" / "own" / "install.d"
    element.mkdir(parents=True)
    (element / "50-own").write_text("#!/bin/sh\ntrue\n")
    (element / "50-own").chmod(0o755)
    (element.parent / "package-installs.yaml").write_text("curl:\n")
    text = SPEC.replace(
        "[{name: greet, action: run-script, inputs: {script: greet.sh}}]",
        "[{name: own, action: elements, inputs: {elements: [own]}}]",
    )
    [step] = plan_in(spec_in(tmp_path, text), tmp_path, client, [], "my-project", "x").plan.steps
    assert "curl" in step.inputs["documents"]


def test_what_only_a_deployment_can_plan_is_refused(client: CloudClient, tmp_path: Path) -> None:
    spec = spec_in(tmp_path)
    elsewhere = spec.model_copy(update={"context": "gs://b/context.tar"})
    with pytest.raises(InputError, match="its context is in a bucket"):
        plan_in(elsewhere, tmp_path, client, [], "my-project", "asked")


def test_prices_of_a_file_take_the_place_of_shipped_ones(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    mine = {"date": "2026-11-01", "source": "us", "types": {"e2-micro": {"us-central1": 7}}, "image_gb_month": 1}
    path.write_text(json.dumps(mine))
    found = prices_from(path)
    assert found == replace(
        LIST_PRICES,
        date="2026-11-01",
        source="us",
        types={**LIST_PRICES.types, "e2-micro": {"us-central1": 7}},
        image_gb_month=1,
    )
    assert found.machine_hour("e2-micro", "us-central1", spot=False) == 7
    assert prices_from(None) is LIST_PRICES


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"date": "x"}',
        '{"date": "x", "source": "y", "invocation": -1}',
        "[" * 100_000,
        '{"date": "x", "source": "y", "disks": {"pd-ssd": {"r": NaN}}}',
        '{"date": "x", "source": "y", "types": 7}',
        '{"date": "x", "source": "y", "invocation": 1e300}',
        '{"date": "x", "source": "y", "address_hour": Infinity}',
        json.dumps({"date": "x" * 41, "source": "y"}),
        json.dumps({"date": "\x1b[2J", "source": "y"}),
    ],
)
def test_file_that_is_no_price_list_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "prices.json"
    path.write_text(text)
    with pytest.raises(InputError, match="is no price list"):
        prices_from(path)


def test_price_list_is_read_up_to_a_size(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text(" " * ((1 << 20) + 1))
    with pytest.raises(InputError, match="it is no price list"):
        prices_from(path)
    with pytest.raises(InputError, match="No such file"):
        prices_from(tmp_path / "absent")
