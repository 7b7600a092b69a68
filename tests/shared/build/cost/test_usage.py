"""What a build has used and cost, computed from its own record by hand-made arithmetic."""

from dataclasses import replace

import pytest

from shared.build.build import (
    ArchiveRecord,
    Build,
    ExportedFile,
    ImageRecord,
    LedgerEntry,
    Outcome,
    State,
    Stay,
)
from shared.build.cost.list_prices import LIST_PRICES
from shared.build.cost.price_list import MachinePrices, PriceList
from shared.build.cost.usage import build_usage, without_price
from shared.build.plan import MachinePlan, Plan, SourceImage, VerifyMachinePlan
from shared.names import LOCAL
from tests.world.values import NOON, build, ended_build, plan

PRICES = PriceList(
    date="2026-01-02",
    source="a test",
    machines={
        "n1": MachinePrices(
            vcpu_hour=0.02,
            gb_hour=0.01,
            memory={"standard": 4, "highmem": 8},
            regions={"us-central1": 1.0, "r2": 2.0},
            spot={"us-central1": 0.25},
        )
    },
    types={"e2-micro": {"us-central1": 0.01}},
    gpus={"nvidia-tesla-t4": {"us-central1": 0.4}},
    disks={"pd-standard": {"us-central1": 0.073, "r2": 0.146}},
    storage={"us-central1": 0.02},
    image_gb_month=0.05,
    invocation=0.001,
)
ZONES = ("us-central1-a", "us-central1-b")


def cloud_plan(**changes: object) -> Plan:
    """Return a plan of one VM of one vCPU and a disk of 10 GB on Google Cloud."""
    machine = MachinePlan("p", zones=ZONES, machine_type="n1-standard-1", disk_size_gb=10)
    return replace(plan(), machine=machine, **changes)  # type: ignore[arg-type]


def stayed(made: Plan, *lengths: tuple[State, float], attempt: int = 1, **changes: object) -> Build:
    """Return a finished build that has been in these states for so many seconds."""
    stays, now = [], NOON
    for state, length in lengths:
        stays.append(Stay(state, attempt, now))
        now += length
    stays.append(Stay(State.FINISHED, attempt, now))
    known = build(plan=made, state=State.FINISHED, created=NOON, updated=now, stays=tuple(stays))
    return replace(known, outcome=Outcome.SUCCEEDED, **changes)  # type: ignore[arg-type]


GOOD = ((State.PREPARING, 30), (State.PROVISIONING, 3600), (State.EXPORTING, 60), (State.CLEANING, 10))


def test_build_of_one_vm_costs_its_hour_its_disk_and_its_invocations() -> None:
    done = stayed(cloud_plan(), *GOOD, orders=4, reports=3)

    used = build_usage(done, PRICES)

    assert used is not None
    assert used.vm_seconds == {"n1-standard-1": 3600}
    assert used.disk_gb_hours == {"pd-standard": round(10 * 3700 / 3600, 3)}
    assert used.invocations == 12
    assert used.dollars == pytest.approx(1 * (0.02 + 4 * 0.01) + 10 * 3700 / 3600 * 0.0001 + 12 * 0.001, abs=1e-6)
    assert used.unpriced == ()
    assert used.prices == "2026-01-02"


def test_other_region_has_its_factor() -> None:
    made = replace(cloud_plan(), machine=replace(cloud_plan().machine, zones=("r2-a",)))

    used = build_usage(stayed(made, *GOOD), PRICES)

    assert used is not None
    assert used.dollars is not None
    assert used.dollars == pytest.approx(2 * 0.06 + 10 * 3700 / 3600 * 0.0002 + 0.001, abs=1e-6)


def test_vm_costs_a_minute_at_least() -> None:
    used = build_usage(stayed(cloud_plan(), (State.PREPARING, 1), (State.PROVISIONING, 5), (State.CLEANING, 1)), PRICES)
    assert used is not None
    assert used.vm_seconds == {"n1-standard-1": 60}


def test_each_attempt_has_a_vm_and_all_of_them_one_disk() -> None:
    lost = ((State.PREPARING, 10), (State.PROVISIONING, 100), (State.PREPARING, 10), (State.PROVISIONING, 200))
    used = build_usage(stayed(cloud_plan(), *lost, (State.EXPORTING, 60), (State.CLEANING, 20)), PRICES)
    assert used is not None
    assert used.vm_seconds == {"n1-standard-1": 300}
    assert used.disk_gb_hours == {"pd-standard": round(10 * 400 / 3600, 3)}


def test_vm_of_a_build_that_failed_runs_until_it_is_cleaned_up() -> None:
    cut = ((State.PREPARING, 10), (State.PROVISIONING, 100), (State.CLEANING, 50))
    failed = replace(stayed(cloud_plan(), *cut), outcome=Outcome.TIMED_OUT)
    used, kept = build_usage(failed, PRICES), build_usage(stayed(cloud_plan(), *cut), PRICES)
    assert used is not None
    assert kept is not None
    assert used.vm_seconds == {"n1-standard-1": 150}
    assert kept.vm_seconds == {"n1-standard-1": 100}


def test_kept_disk_is_paid_for_as_long_as_it_is_kept() -> None:
    cut = ((State.PREPARING, 0), (State.PROVISIONING, 3600), (State.CLEANING, 0), (State.HELD, 36_000))
    failed = replace(stayed(cloud_plan(), *cut), outcome=Outcome.FAILED, disk_until=NOON + 40_000)
    used = build_usage(failed, PRICES)
    assert used is not None
    assert used.disk_gb_hours == {"pd-standard": 110}
    let_go = build_usage(replace(failed, disk_until=0.0), PRICES)
    assert let_go is not None
    assert let_go.disk_gb_hours == {"pd-standard": 10}
    held = LedgerEntry("disk", "d", keep=True)
    assert build_usage(replace(failed, disk_until=0.0, ledger=(held,)), PRICES) == used


def test_every_verifier_has_a_vm_of_its_own_type_and_a_disk() -> None:
    machines = (VerifyMachinePlan("small", machine_type="e2-micro"), VerifyMachinePlan("same"))
    made = cloud_plan(verify_steps=(), verify_machines=machines)
    lengths = (*GOOD[:3], (State.VERIFYING, 120), (State.CLEANING, 0))

    used = build_usage(stayed(made, *lengths), PRICES)

    assert used is not None
    assert used.vm_seconds == {"e2-micro": 120, "n1-standard-1": 3720}
    grown = made.image.disk_size_gb + 2  # GROWTH
    assert used.disk_gb_hours == {"pd-standard": round((10 * 3810 + 2 * grown * 120) / 3600, 3)}


def test_vm_that_exports_is_counted_where_the_plan_has_one() -> None:
    image = replace(plan().image, export_to="gs://b/x.tar.gz")
    made = cloud_plan(exporter=SourceImage("debian-cloud", "debian-12", "1", disk_size_gb=10), image=image)
    made = replace(made, machine=replace(made.machine, spot=True, gpu_type="nvidia-tesla-t4"))

    used = build_usage(stayed(made, *GOOD), PRICES)

    assert used is not None
    assert used.vm_seconds == {"n1-standard-1": 60, "n1-standard-1 spot": 3600}
    assert used.gpu_seconds == {"nvidia-tesla-t4": 3600}
    assert used.disk_gb_hours["pd-standard"] == round((10 * 3700 + 20 * 70) / 3600, 3)
    assert used.dollars is not None
    assert used.dollars == pytest.approx(
        0.06 * 0.25 + 0.4 + 0.06 / 60 + (10 * 3700 + 20 * 70) / 3600 * 0.0001 + 0.001, abs=1e-6
    )


def test_price_that_is_not_known_is_said_and_not_guessed() -> None:
    made = replace(cloud_plan(), machine=replace(cloud_plan().machine, machine_type="c9-mega-2", disk_type="pd-new"))
    used = build_usage(stayed(made, *GOOD), PRICES)
    assert used is not None
    assert used.unpriced == ("c9-mega-2 in us-central1", "pd-new in us-central1")
    assert used.dollars == 0.001  # the invocation
    assert used.cost_text == (
        "$0.0010 at list prices of 2026-01-02; not known: c9-mega-2 in us-central1, pd-new in us-central1"
    )


def test_spot_without_a_price_counts_as_any_other_and_says_so() -> None:
    made = replace(cloud_plan(), machine=replace(cloud_plan().machine, zones=("r2-a",), spot=True))
    used = build_usage(stayed(made, *GOOD), PRICES)
    assert used is not None
    assert used.dollars is not None
    assert used.dollars > 0.12
    assert used.unpriced == ("what Spot VMs of n1-standard-1 cost less in r2",)


def test_image_and_its_files_cost_each_month() -> None:
    files = (ExportedFile("qcow2", 2_000_000_000, "0"), ExportedFile("vmdk", 1_000_000_000, "0"))
    image = ImageRecord("p", "hello", "1", files=files)
    used = build_usage(stayed(cloud_plan(), *GOOD, image=image), PRICES)
    assert used is not None
    assert (used.image_gb, used.exported_gb) == (10, 3)
    assert used.dollars_a_month == pytest.approx(10 * 0.05 + 3 * 0.02)
    archive = ArchiveRecord(500_000_000, "", "", "", 10 << 30, 1)
    one = build_usage(stayed(cloud_plan(), *GOOD, image=replace(image, files=(), archive=archive)), PRICES)
    assert one is not None
    assert one.exported_gb == 0.5
    failed = replace(stayed(cloud_plan(), *GOOD, image=image), outcome=Outcome.FAILED)
    nothing = build_usage(failed, PRICES)
    assert nothing is not None
    assert (nothing.image_gb, nothing.exported_gb, nothing.dollars_a_month) == (0, 0, 0)


def test_build_on_one_machine_costs_nothing_on_google_cloud() -> None:
    made = replace(plan(), machine=MachinePlan(LOCAL))
    used = build_usage(stayed(made, *GOOD, orders=9), PRICES)
    assert used is not None
    assert used.vm_seconds == {LOCAL: 3600}
    assert (used.dollars, used.prices, used.invocations) == (None, "", 0)
    assert used.cost_text == "nothing on Google Cloud"


def test_build_whose_beginning_is_not_recorded_has_no_usage() -> None:
    done = stayed(cloud_plan(), *GOOD)
    assert build_usage(replace(done, stays=()), PRICES) is None
    assert build_usage(replace(done, stays=done.stays[1:]), PRICES) is None  # begun by the release before
    assert build_usage(replace(done, plan=None), PRICES) is None


def test_running_build_is_counted_until_now() -> None:
    running = replace(
        stayed(cloud_plan(), *GOOD[:2]),
        stays=(Stay(State.PREPARING, 1, NOON), Stay(State.PROVISIONING, 1, NOON + 30)),
        updated=NOON + 40,
        outcome=None,
    )
    used = build_usage(running, PRICES, now=NOON + 630)
    assert used is not None
    assert used.vm_seconds == {"n1-standard-1": 600}


@pytest.mark.parametrize(
    ("machine_type", "dollars"),
    [
        ("e2-standard-2", 0.067006),
        ("n1-standard-1", 0.0475),
        ("n2d-highcpu-128", 3.992064),
        ("n2-standard-96", 4.661664),
    ],
)
def test_shipped_list_has_what_the_price_pages_say(machine_type: str, dollars: float) -> None:
    found = LIST_PRICES.machine_hour(machine_type, "us-central1", spot=False)
    assert found == pytest.approx(dollars, rel=1e-4)


def test_shipped_list_knows_spot_and_regions_or_says_that_it_does_not() -> None:
    spot = LIST_PRICES.machine_hour("e2-highcpu-16", "us-central1", spot=True)
    assert spot == pytest.approx(0.158224, rel=1e-3)
    west = LIST_PRICES.machine_hour("e2-highcpu-16", "europe-west1", spot=False)
    assert west == pytest.approx(0.43535136, rel=1e-4)
    assert LIST_PRICES.machine_hour("c3-standard-4", "europe-west1", spot=False) == pytest.approx(0.22199056, rel=1e-5)
    assert LIST_PRICES.machine_hour("g1-small", "europe-west1", spot=False) is None
    assert LIST_PRICES.machine_hour("n2-custom-4-8192", "us-central1", spot=False) is None
    assert not LIST_PRICES.knows_spot("n1-standard-1", "us-central1")


@pytest.mark.parametrize(
    ("machine_type", "region", "hour"),
    [
        ("c2-standard-16", "us-central1", 0.835232),
        ("c2-standard-30", "europe-west2", 2.01759),
        ("c2d-highcpu-16", "us-central1", 0.599696),
        ("c2d-highcpu-16", "asia-south1", 0.395808),
        ("c3-highcpu-4", "us-central1", 0.170104),
        ("c3-standard-22", "us-east4", 1.108844),
        ("t2a-standard-48", "europe-west4", 1.94131632),
        ("e2-medium", "africa-south1", 0.043825468),
        ("e2-medium", "us-west4", 0.03773541),
        ("e2-highcpu-2", "me-central2", 0.079152376),
    ],
)
def test_shipped_prices_are_those_of_the_catalog(machine_type: str, region: str, hour: float) -> None:
    """As pricing.yml of google-cloud-pricing-cost-calculator has them, most of which no price here was made from."""
    assert LIST_PRICES.machine_hour(machine_type, region, spot=False) == pytest.approx(hour, rel=1e-4)


def test_a_build_costs_what_its_own_zone_does_and_its_addresses() -> None:
    made = ended_build()
    assert made.plan is not None
    spread = replace(made.plan.machine, zones=("us-central1-a", "europe-west2-c"), external_ip=True)
    made = replace(made, plan=replace(made.plan, machine=spread))
    here, there = build_usage(made), build_usage(replace(made, zone="europe-west2-c"))
    assert here is not None
    assert there is not None
    hour = LIST_PRICES.machine_hour("e2-standard-2", "us-central1", spot=False)
    assert hour is not None
    assert (there.dollars or 0) - (here.dollars or 0) == pytest.approx(hour * 0.28844 * 310 / 3600, rel=0.01)
    inside = build_usage(replace(made, plan=replace(made.plan or plan(), machine=replace(spread, external_ip=False))))
    assert inside is not None
    assert (here.dollars or 0) - (inside.dollars or 0) == pytest.approx(0.005 * 310 / 3600, rel=0.01)


def test_licences_that_are_paid_for_are_named() -> None:
    paid = "https://www.googleapis.com/compute/v1/projects/rhel-cloud/global/licenses/rhel-9-server"
    free = ("projects/debian-cloud/global/licenses/debian-12", "projects/rhel-cloud/global/licenses/rhel-9-byos")
    made = ended_build()
    assert made.plan is not None
    source = replace(made.plan.source, licenses=(paid, *free))
    used = build_usage(replace(made, plan=replace(made.plan, source=source)))
    assert used is not None
    assert used.unpriced == ("licence rhel-cloud/rhel-9-server",)


def test_what_has_no_price_in_one_of_the_zones_is_known_before() -> None:
    machine = MachinePlan("p", zones=("us-central1-a", "europe-west1-b"), machine_type="n1-standard-4")
    assert without_price(replace(plan(), machine=machine)) == ()
    gpu = replace(machine, gpu_type="nvidia-tesla-t4", disk_type="hyperdisk-balanced")
    assert without_price(replace(plan(), machine=gpu)) == (
        "nvidia-tesla-t4 in europe-west1",
        "hyperdisk-balanced in europe-west1",
    )
    assert without_price(replace(plan(), machine=replace(machine, machine_type="e2-custom-96-393216"))) == (
        "e2-custom-96-393216 in us-central1",
        "e2-custom-96-393216 in europe-west1",
    )
