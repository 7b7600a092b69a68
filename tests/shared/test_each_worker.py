"""What each worker does of its own: which machine, which image, which names, in which order."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from provisioner.protocol import COMPLETED
from shared import resources
from shared.build import ImageDocument, LedgerEntry, Outcome, State
from shared.errors import EnvironmentFault, GoldsmithError, NoSpace, Permanent, Transient
from shared.events import MachineStopped
from shared.lifecycle import begin
from shared.plan import Deprecation
from shared.ports import Image, Stored
from shared.workers import carry_out
from tests import values
from tests.fakes import FakeCompute
from tests.memory_bucket import MemoryBucket
from tests.shared.mid_build import (
    ARCHIVE,
    BOOT,
    IMAGE,
    VERIFY,
    VM,
    claim,
    commit,
    facts,
    kinds,
    older,
    order_of,
    publish,
    put,
    whole_plan,
    world_at,
)
from tests.world import Guest, World


class Barred(MemoryBucket):
    """A bucket whose published files cannot be read any more."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.objects = world.bucket.objects

    def withdraw(self, uri: str, sha256: str) -> None:
        raise EnvironmentFault(f"{uri}: Permission denied")


class EndsMeanwhile:
    """The world's store, in which the build ends just before it is looked at for the n-th time."""

    def __init__(self, world: World, looks: int, outcome: Outcome) -> None:
        self._world, self._looks, self._outcome = world, looks, outcome

    def load(self, build_id: str) -> Stored:
        self._looks -= 1
        if self._looks < 0:
            build = self._world.build()
            put(self._world, State.FINISHED, outcome=self._outcome, files=build.files, image=build.image)
        return self._world.store.load(build_id)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world.store, name)


SCRATCH = f"gs-{values.BUILD_ID}-a1-scratch"


class TestCreateResources:
    def test_the_vm_gets_its_job_and_outlives_the_deadline_a_little(self) -> None:
        world = world_at("create_resources")
        carry_out(order_of(world, "create_resources"), world.factory)
        request = world.compute.machines[VM].request
        assert (request.boot_disk, request.source_image) == (BOOT, "debian-12-20261101")
        assert (request.job.phase, request.job.steps, request.job.clean) == ("build", whole_plan().steps, True)
        assert request.job.key == world.keys.of_machine(values.BUILD_ID, 1, "build")
        assert request.max_seconds == 3600 + 600
        assert request.labels == resources.labels(whole_plan(), 1)

    def test_hazard_9_a_vm_that_is_made_late_still_gets_a_minute(self) -> None:
        world = world_at("create_resources")
        world.clock.time += 10_000
        carry_out(order_of(world, "create_resources"), world.factory)
        assert world.compute.machines[VM].request.max_seconds == 60

    def test_hazard_4_the_next_attempt_takes_the_disk_over_from_a_vm_that_is_gone_for_good(self) -> None:
        """An earlier VM that was only thought lost would write to the same disk; its log is kept."""
        world = world_at("export_image")
        second = resources.of_order(whole_plan(), "create_resources", 2)
        first = resources.of_order(whole_plan(), "create_resources", 1)
        put(world, State.PREPARING, attempt=2, zone="", ledger=(*first, second[0]))
        carry_out(replace(order_of(world, "create_resources"), attempt=2), world.factory)
        assert world.left()["machines"] == [second[0].name]
        assert world.compute.machines[second[0].name].request.boot_disk == BOOT
        assert f"logs/{values.BUILD_ID}/{VM}.log" in world.bucket.objects

    def test_it_waits_while_that_vm_cannot_be_deleted(self) -> None:
        world = world_at("export_image")
        put(world, State.PREPARING, attempt=2, zone="")
        world.compute.faults["delete"] = Transient("busy")
        with pytest.raises(Transient, match=f"{VM} still has the boot disk"):
            carry_out(replace(order_of(world, "create_resources"), attempt=2), world.factory)


class TestExportImage:
    def test_hazard_12_the_disk_of_a_running_vm_is_not_read(self) -> None:
        world = world_at("export_image")
        world.compute.machines[VM].status = "running"
        with pytest.raises(Transient, match="has not stopped after 120 s"):
            carry_out(order_of(world, "export_image"), world.factory)
        assert IMAGE not in world.compute.all_images
        world.compute.machines[VM].stop()
        carry_out(order_of(world, "export_image"), world.factory)
        assert kinds(world) == {"ImageExported"}

    def test_hazard_12_a_vm_whose_zone_nobody_has_said_is_looked_for_in_all(self) -> None:
        world = world_at("export_image")
        put(world, State.EXPORTING, zone="")
        world.compute.machines[VM].status = "running"
        with pytest.raises(Transient, match="has not stopped"):
            carry_out(order_of(world, "export_image"), world.factory)
        del world.compute.machines[VM]
        with pytest.raises(Transient, match="in none of the plan's zones"):
            carry_out(order_of(world, "export_image"), world.factory)

    def test_hazard_11_a_vm_that_says_done_and_stays_on_ends_at_the_deadline(self) -> None:
        world = World(Guest(stays_on=True))
        build = world.run(whole_plan(deprecate_old=None))
        assert (build.outcome, build.reason) == (
            Outcome.TIMED_OUT,
            "not done 3600 s after the request, still exporting",
        )
        assert world.left() == {"machines": [], "disks": [], "images": [], "objects": []}

    def test_hazard_6_somebody_else_s_image_of_that_name_is_an_error_and_stays(self) -> None:
        world = world_at("export_image")
        world.compute.all_images[IMAGE] = older(IMAGE, 5)
        carry_out(order_of(world, "export_image"), world.factory)
        [failed] = facts(world)
        assert "made by somebody else" in getattr(failed, "reason", "")
        put(world, State.CLEANING, outcome=Outcome.FAILED)
        carry_out(order_of(world, "clean_up"), world.factory)
        assert world.compute.all_images[IMAGE] == older(IMAGE, 5)
        assert BOOT not in world.compute.disks

    def test_hazard_7_an_image_that_is_there_is_waited_for_and_not_taken_for_ready(self) -> None:
        world = world_at("export_image")
        carry_out(order_of(world, "export_image"), world.factory)
        world.compute.faults["create_image"] = Transient("the image is still being made")
        with pytest.raises(Transient, match="still being made"):
            carry_out(order_of(world, "export_image"), world.factory)


class TestVerifyImage:
    def test_a_vm_is_booted_from_the_new_image_with_the_verify_steps(self) -> None:
        world = world_at("verify_image")
        carry_out(order_of(world, "verify_image"), world.factory)
        request = world.compute.machines[VERIFY].request
        assert (request.source_image, request.job.phase, request.job.clean) == (IMAGE, "verify", False)
        assert request.job.key != world.keys.of_machine(values.BUILD_ID, 1, "build")

    def test_one_that_claims_before_anybody_has_said_where_it_runs_is_looked_up_first(self) -> None:
        world = world_at("verify_image")
        order = order_of(world, "verify_image")
        carry_out(order, world.factory)
        claim(world)
        carry_out(order, world.factory)  # delivered again, since its first answer was lost
        assert [each.kind for each in facts(world)] == ["MachineStarted", "MachineStarted"]

    def test_one_that_claims_to_be_done_must_be_seen_stopped(self) -> None:
        world = world_at("verify_image")
        order = order_of(world, "verify_image")
        carry_out(order, world.factory)
        claim(world, zone="here")
        with pytest.raises(Transient, match="has not stopped after 120 s"):
            carry_out(order, world.factory)
        world.compute.machines[VERIFY].stop()
        carry_out(order, world.factory)
        stop = facts(world)[-1]
        assert isinstance(stop, MachineStopped)
        assert (stop.attempt, stop.phase, stop.claim) == (1, "verify", COMPLETED)


class TestConsoles:
    """Compute Engine promises serial output of running VMs alone."""

    def test_hazard_13_the_console_is_stored_before_the_vm_has_stopped(self) -> None:
        world = world_at("export_image")
        world.compute.machines[VM].serial[1] = b"[step greet] hello\n"
        carry_out(order_of(world, "export_image"), world.factory)
        assert world.bucket.objects[f"logs/{values.BUILD_ID}/{VM}.log"] == b"[step greet] hello\n"


class Watched(MemoryBucket):
    """A bucket that writes down what it and Compute Engine show to others, in order."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.objects, self.shown = world.bucket.objects, list[str]()

    def publish(self, staged: str, final: str) -> None:
        super().publish(staged, final)
        self.shown.append(final)


class WatchedCompute(FakeCompute):
    def __init__(self, world: World, bucket: Watched) -> None:
        super().__init__(world.clock, bucket)
        self.all_images, self._shown = world.compute.all_images, bucket.shown

    def set_family(self, project: str, name: str, family: str | None) -> None:
        super().set_family(project, name, family)
        self._shown.append(f"family {family}")


PUBLISHED = [ARCHIVE, "out/hello.spdx.json", "out/hello.cdx.json", "out/hello.json"]


class TestLabelImage:
    def test_the_image_joins_its_family_and_the_archive_gets_its_name_and_its_manifest(self) -> None:
        world = publish(world_at("label_image"))
        assert world.compute.all_images[IMAGE].family == "hello"
        written = [uri for uri in world.bucket.objects if not uri.startswith("logs/")]
        assert sorted(written) == sorted(PUBLISHED)
        document = json.loads(world.bucket.objects["out/hello.json"])
        assert document["sbom"] == ["hello.spdx.json", "hello.cdx.json"]
        assert (document["build"]["id"], document["packages"][1]["name"]) == (values.BUILD_ID, "libc6")

    def test_nothing_is_shown_before_the_commit_and_the_family_comes_last(self) -> None:
        world = world_at("label_image")
        bucket = Watched(world)
        factory = replace(world.factory, bucket=bucket, compute=WatchedCompute(world, bucket))
        commit(world, factory)
        assert (bucket.shown, world.compute.all_images[IMAGE].family) == ([], None)
        assert not set(PUBLISHED) & set(world.bucket.objects)
        publish(world, factory)
        assert bucket.shown == [*PUBLISHED, "family hello"]

    @pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.CANCELLED])
    @pytest.mark.parametrize("looks", range(len(PUBLISHED) + 1))
    def test_a_worker_that_is_late_shows_nothing_more_and_takes_back_what_it_has_shown(
        self, outcome: Outcome, looks: int
    ) -> None:
        """The build ends between one effect and the next; `looks` of them were before its end."""
        world = commit(world_at("label_image"))
        store = EndsMeanwhile(world, looks + 1, outcome)
        with pytest.raises(Transient, match="does not want label_image any more"):
            carry_out(order_of(world, "label_image", 2), replace(world.factory, store=store))
        assert world.compute.all_images[IMAGE].family is None
        carry_out(order_of(world, "label_image", 2), world.factory)  # the next delivery
        assert not set(PUBLISHED) & set(world.bucket.objects)
        assert world.compute.all_images[IMAGE].family is None

    def test_a_kept_image_leaves_its_family_and_carries_its_end(self) -> None:
        world = publish(world_at("label_image"))
        build, until = world.build(), values.NOON + 60
        ledger = tuple(replace(entry, keep=entry.kind == "image") for entry in build.ledger)
        kept = {"kept_until": until, "files": build.files, "image": build.image, "ledger": ledger}
        put(world, State.CLEANING, outcome=Outcome.FAILED, **kept)
        carry_out(order_of(world, "clean_up", 3), world.factory)
        image = world.compute.all_images[IMAGE]
        assert (image.family, image.labels["goldsmith-expires"]) == (None, str(int(until)))
        assert not set(PUBLISHED) & set(world.bucket.objects)

    def test_a_file_that_cannot_be_taken_back_keeps_no_image_in_its_family(self) -> None:
        world = publish(world_at("label_image"))
        build = world.build()
        put(world, State.CLEANING, outcome=Outcome.FAILED, kept_until=values.NOON, files=build.files, image=build.image)
        factory = replace(world.factory, bucket=Barred(world))
        carry_out(order_of(world, "clean_up", 3), factory)
        assert all(image.family is None for image in world.compute.all_images.values() if image.name == IMAGE)
        assert getattr(facts(world)[-1], "remaining", None) == ()

    def test_hazard_6_another_archive_of_that_name_is_an_error_and_stays_with_its_manifest(self) -> None:
        world = world_at("label_image")
        world.bucket.objects |= {ARCHIVE: b"another", "out/hello.json": b"{}"}
        publish(world)
        assert kinds(world) == {"OrderFailed"}
        put(world, State.CLEANING, outcome=Outcome.FAILED, files=world.build().files, image=world.build().image)
        carry_out(order_of(world, "clean_up", 3), world.factory)
        assert (world.bucket.objects[ARCHIVE], world.bucket.objects["out/hello.json"]) == (b"another", b"{}")

    def test_hazard_10_a_fact_that_fails_is_ensured_again_alone(self) -> None:
        world = world_at("label_image")
        world.compute.faults["packages"] = Transient("busy")
        with pytest.raises(Transient):
            carry_out(order_of(world, "label_image"), world.factory)
        publish(world)
        assert ARCHIVE in world.bucket.objects


class TestDeprecateImages:
    def published(self, *images: Image, **deprecation: object) -> World:
        world = world_at("label_image", whole_plan(deprecate_old=Deprecation(**deprecation)))  # type: ignore[arg-type]  # by name
        publish(world)
        world.compute.all_images |= {image.name: image for image in images}
        world.bus.waiting.clear()
        put(world, State.CLEANING, outcome=Outcome.SUCCEEDED, retiring=True)
        return world

    def deprecated(self, world: World) -> set[str]:
        return {image.name for image in world.compute.all_images.values() if image.deprecated}

    def test_older_ones_are_in_favour_of_ours(self) -> None:
        world = self.published(older("older", 2000), ttl_seconds=60.0)
        carry_out(order_of(world, "deprecate_images"), world.factory)
        old = world.compute.all_images["old"]
        assert (old.deprecated, old.replacement, old.deletes_at) == ("DEPRECATED", IMAGE, values.NOON + 60)
        assert facts(world) == [
            values.images_deprecated(event_id="o1-ImagesDeprecated", time=values.NOON, names=("old", "older"))
        ]

    def test_hazard_15_an_older_build_never_deprecates_a_newer_image(self) -> None:
        world = self.published(older("newer", -10))
        carry_out(order_of(world, "deprecate_images"), world.factory)
        assert self.deprecated(world) == {"old"}

    def test_hazard_10_the_newest_older_ones_stay_active_when_asked_and_ours_always(self) -> None:
        world = self.published(*(older(f"older-{age}", 2000 + age) for age in range(3)), keep=2)
        for number in (1, 2):
            carry_out(order_of(world, "deprecate_images", number), world.factory)
            assert self.deprecated(world) == {"older-1", "older-2"}

    def test_hazard_10_other_families_are_left_alone(self) -> None:
        world = self.published(older("other", 2000, family="other"), older("none", 2000, family=None))
        carry_out(order_of(world, "deprecate_images"), world.factory)
        assert self.deprecated(world) == {"old"}

    @pytest.mark.parametrize("family", ["", None])
    def test_hazard_10_an_empty_family_is_refused(self, family: str | None) -> None:
        world = world_at("deprecate_images", whole_plan(family=family))
        carry_out(order_of(world, "deprecate_images"), world.factory)
        assert kinds(world) == {"OrderFailed"}
        assert self.deprecated(world) == set()

    def test_hazard_10_errors_are_collected_and_the_others_are_done(self) -> None:
        world = self.published(older("older", 2000))
        world.compute.faults["deprecate_image"] = Permanent("old is locked")
        carry_out(order_of(world, "deprecate_images"), world.factory)
        assert self.deprecated(world) == {"older"}
        assert [getattr(fact, "reason", "") for fact in facts(world)] == ["old is locked"]

    def test_images_that_are_not_ours_are_left_alone_unless_their_family_is_adopted(self) -> None:
        """Whatever labels they carry: cases of a hand-made golden image in a family that a spec names."""
        forged = older("forged", 2000, labels={"goldsmith-build": values.BUILD_ID, "goldsmith-digest": "d" * 40})
        for adopted, expected in (((), set()), (("other",), set()), (("hello",), {"old", "forged"})):
            world = self.published(forged)
            carry_out(order_of(world, "deprecate_images"), replace(world.factory, adopted_families=adopted))
            assert self.deprecated(world) == expected

    def test_our_own_older_image_is_deprecated_without_adoption(self) -> None:
        world = self.published(older("mine", 2000))
        known = ImageDocument("local", "mine", "mine-0123456789ab", "d1", state="published", id="sha256-mine")
        world.store.create(values.build(id="mine-0123456789ab"), values.requested(build_id="mine-0123456789ab"), known)
        carry_out(order_of(world, "deprecate_images"), replace(world.factory, adopted_families=()))
        assert self.deprecated(world) == {"mine"}

    def test_an_image_that_has_left_the_family_retires_none(self) -> None:
        world = self.published()
        world.compute.set_family("local", IMAGE, None)
        carry_out(order_of(world, "deprecate_images"), world.factory)
        assert "is not in family hello" in getattr(facts(world)[0], "reason", "")
        assert self.deprecated(world) == set()

    def test_nothing_is_deprecated_for_a_build_that_is_not_published(self) -> None:
        """An order of the release before, which gave it while a build could still be cancelled."""
        world = self.published()
        put(world, State.CLEANING, outcome=Outcome.CANCELLED, retiring=False)
        carry_out(order_of(world, "deprecate_images"), world.factory)
        assert (facts(world), self.deprecated(world)) == ([], set())

    def test_hazard_10_a_refusal_is_a_warning_and_the_build_has_succeeded(self) -> None:
        world = World()
        world.compute.all_images["old"] = older("old", 1000)
        world.compute.faults["deprecate_image"] = Permanent("old is locked")
        build = world.run(whole_plan())
        assert (build.outcome, build.reason) == (Outcome.SUCCEEDED, "")
        assert build.warnings == ("older images of the family are not deprecated: old is locked",)
        assert self.deprecated(world) == {"old"}, "tried again"


class TestCleanUp:
    def test_hazard_13_logs_are_stored_before_the_vm_goes(self) -> None:
        world = world_at("clean_up")
        carry_out(order_of(world, "clean_up"), world.factory)
        assert world.left()["machines"] == []
        logs = [uri for uri in world.bucket.objects if uri.startswith("logs/")]
        assert logs == [f"logs/{values.BUILD_ID}/{VM}.log", f"logs/{values.BUILD_ID}/{VERIFY}.log"]

    def test_hazard_13_a_vm_whose_log_cannot_be_stored_yet_stays(self) -> None:
        world = world_at("clean_up")
        world.compute.faults["serial_output"] = Transient("busy")
        carry_out(order_of(world, "clean_up"), world.factory)
        assert world.left()["machines"] == [VM]
        assert [entry.name for entry in getattr(facts(world)[0], "remaining", ())] == [VM, BOOT, SCRATCH]

    @pytest.mark.parametrize("fault", [NoSpace("full"), Permanent("forbidden"), GoldsmithError("odd")])
    def test_a_log_that_can_never_be_stored_does_not_keep_a_vm_alive(self, fault: GoldsmithError) -> None:
        """On a full disk, the VM's own disk is what has to go to make room."""
        world = world_at("clean_up")
        carry_out(order_of(world, "clean_up"), replace(world.factory, bucket=FullBucket(fault)))
        assert (world.left()["machines"], world.left()["disks"]) == ([], [])

    @pytest.mark.parametrize("fault", [Transient("busy"), Permanent("forbidden"), EnvironmentFault("odd")])
    def test_what_cannot_be_deleted_remains_and_the_rest_goes(self, fault: GoldsmithError) -> None:
        world = world_at("clean_up")
        world.compute.faults["delete"] = fault
        carry_out(order_of(world, "clean_up"), world.factory)
        assert [entry.name for entry in getattr(facts(world)[0], "remaining", ())] == [VM, BOOT, SCRATCH]
        carry_out(order_of(world, "clean_up", 2), world.factory)
        assert facts(world)[1] == values.cleaned_up(event_id="o2-CleanedUp", time=values.NOON)

    @pytest.mark.parametrize("zone", ["", "full"])
    def test_it_looks_in_all_zones_of_the_plan(self, zone: str) -> None:
        """A worker that died may have made things in a zone that nobody has heard of."""
        world = world_at("clean_up")
        put(world, State.CLEANING, outcome=Outcome.FAILED, zone=zone)
        carry_out(order_of(world, "clean_up"), world.factory)
        assert (world.left()["machines"], world.left()["disks"]) == ([], [])

    def test_what_is_kept_stays(self) -> None:
        world = world_at("clean_up")
        image = LedgerEntry("image", IMAGE, "local")
        put(world, State.CLEANING, outcome=Outcome.SUCCEEDED, ledger=(replace(image, keep=True),))
        carry_out(order_of(world, "clean_up"), world.factory)
        assert IMAGE in world.compute.all_images

    def test_a_rejected_build_has_nothing_to_clean(self) -> None:
        world = World()
        world.store.create(begin(values.rejected()).build, values.rejected())
        carry_out(order_of(world, "clean_up"), world.factory)
        assert kinds(world) == {"CleanedUp"}


class FullBucket(MemoryBucket):
    """Takes nothing more, and lets everything go."""

    def __init__(self, fault: GoldsmithError) -> None:
        super().__init__()
        self._fault = fault

    def write(self, uri: str, data: bytes) -> None:
        raise self._fault
