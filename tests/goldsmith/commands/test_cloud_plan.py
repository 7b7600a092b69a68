"""goldsmith plan --project: the plan, its quota, its estimate, and prices from a file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from goldsmith.commands.cloud_plan import plan_in, planned_json, planned_lines, prices_from
from shared.build.cost.estimate import Estimate, estimate_build
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
    made = plan_in(spec_in(tmp_path), tmp_path, client, earlier, "my-project", "asked")
    assert (made.image.project, made.machine.project, made.source.name) == ("my-project", "my-project", "debian-12-1")
    assert made.machine.zones == ("us-central1-a",)  # of the earlier build
    found = estimate_build(made, earlier)
    document = planned_json(made, found, "hello-1")
    assert document["image"]["family"] == "hello"
    assert document["unchanged"] == "hello-1"
    assert document["quota"] == {"CPUS": 1, "DISKS_TOTAL_GB": 10}
    assert document["estimate"]["builds"] == 1
    assert document["estimate"]["usage"]["dollars"] > 0
    lines = planned_lines(made, found, "")
    assert "machine:   n1-standard-1, 10 GB pd-standard, in us-central1" in lines
    assert any(line.startswith("cost:      $0.") for line in lines)
    assert any(line.startswith("time:      540 s (") for line in lines)


def test_plan_without_earlier_builds_says_what_it_does_not_know(client: CloudClient, tmp_path: Path) -> None:
    made = plan_in(spec_in(tmp_path), tmp_path, client, [], "my-project", "asked")
    lines = planned_lines(made, Estimate(), "")
    assert "time:      not known: no build of this spec or its family has succeeded here" in lines
    assert "cost:      not known, as its time" in lines
    assert planned_json(made, Estimate(), "")["estimate"]["usage"] is None


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
