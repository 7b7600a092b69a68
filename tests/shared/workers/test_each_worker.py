"""What each worker does of its own: which machine, which image, which names, in which order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from provisioner.protocol import COMPLETED
from shared.build import resources
from shared.build.build import ImageDocument, LedgerEntry, Outcome, State
from shared.build.events import MachineStopped, PublicationWithdrawn
from shared.build.plan import Deprecation, Plan
from shared.engine.lifecycle import begin
from shared.errors import EnvironmentFault, GoldsmithError, NoSpace, Permanent, Transient
from shared.export_ports import ObjectSum
from shared.names import BUILD_LABEL
from shared.ports import Image, Stored
from shared.workers.carry_out import carry_out
from tests.world import values
from tests.world.fakes import FakeCompute
from tests.world.given_orders import (
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
from tests.world.memory_bucket import MemoryBucket
from tests.world.world import Guest, World


class Barred(MemoryBucket):
    """A bucket whose published files cannot be read any more."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.objects = world.bucket.objects

    def withdraw(self, uri: str, sha256: str, known: ObjectSum | None = None) -> None:
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


class LooksEarly:
    """The world's store, which shows the build first, for some looks, as it is now."""

    def __init__(self, world: World, looks: int) -> None:
        self._world = world
        self._first = [world.store.load(values.BUILD_ID)] * looks

    def load(self, build_id: str) -> Stored:
        return self._first.pop() if self._first else self._world.store.load(build_id)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world.store, name)


class ShowsEarly(FakeCompute):
    """The world's Compute Engine, which shows images as they are now."""

    def __init__(self, world: World) -> None:
        super().__init__(world.clock, world.bucket)
        self.all_images, self._first = world.compute.all_images, dict(world.compute.all_images)

    def image(self, project: str, name: str) -> Image | None:
        return self._first.get(name)


def unlabelled_plan() -> Plan:
    """A plan of an image that carries our own labels only until it is published."""
    return whole_plan(labels={**whole_plan().image.labels, "team": "infra"}, own_labels=False)


SCRATCH = f"gs-{values.BUILD_ID}-a1-scratch"


class TestCreateResources:
    def test_the_vm_gets_its_job_and_outlives_the_deadline_a_little(self) -> None:
        world = world_at("create_resources")
        carry_out(order_of(world, "create_resources"), world.backend)
        request = world.compute.machines[VM].request
        assert (request.boot_disk, request.source_image) == (BOOT, "debian-12-20261101")
        assert (request.job.phase, request.job.steps, request.job.clean) == ("build", whole_plan().steps, True)
        assert request.job.key == world.keys.of_machine(values.BUILD_ID, 1, "build")
        assert request.max_seconds == 3600 + 600
        assert request.labels == resources.labels(values.BUILD_ID, 1, values.NOON + whole_plan().timeout)

    def test_hazard_9_a_vm_that_is_made_late_still_gets_a_minute(self) -> None:
        world = world_at("create_resources")
        world.clock.time += 10_000
        carry_out(order_of(world, "create_resources"), world.backend)
        assert world.compute.machines[VM].request.max_seconds == 60

    def test_hazard_4_the_next_attempt_takes_the_disk_over_from_a_vm_that_is_gone_for_good(self) -> None:
        """An earlier VM that was only thought lost would write to the same disk; its log is kept."""
        world = world_at("export_image")
        second = resources.of_order(whole_plan(), "create_resources", 2)
        first = resources.of_order(whole_plan(), "create_resources", 1)
        put(world, State.PREPARING, attempt=2, zone="", ledger=(*first, second[0]))
        carry_out(replace(order_of(world, "create_resources"), attempt=2), world.backend)
        assert world.left()["machines"] == [second[0].name]
        assert world.compute.machines[second[0].name].request.boot_disk == BOOT
        assert f"logs/{values.BUILD_ID}/{VM}.log" in world.bucket.objects

    def test_it_waits_while_that_vm_cannot_be_deleted(self) -> None:
        world = world_at("export_image")
        put(world, State.PREPARING, attempt=2, zone="")
        world.compute.faults["delete"] = Transient("busy")
        with pytest.raises(Transient, match=f"{VM} is still there, and attempt 2 takes its place"):
            carry_out(replace(order_of(world, "create_resources"), attempt=2), world.backend)


class TestExportImage:
    def test_hazard_12_the_disk_of_a_running_vm_is_not_read(self) -> None:
        world = world_at("export_image")
        world.compute.machines[VM].status = "running"
        with pytest.raises(Transient, match="has not stopped after 120 s"):
            carry_out(order_of(world, "export_image"), world.backend)
        assert IMAGE not in world.compute.all_images
        world.compute.machines[VM].stop()
        carry_out(order_of(world, "export_image"), world.backend)
        assert kinds(world) == {"ImageMade"}

    def test_hazard_12_a_vm_whose_zone_is_unknown_is_looked_for_in_all(self) -> None:
        world = world_at("export_image")
        put(world, State.EXPORTING, zone="")
        world.compute.machines[VM].status = "running"
        with pytest.raises(Transient, match="has not stopped"):
            carry_out(order_of(world, "export_image"), world.backend)
        del world.compute.machines[VM]
        with pytest.raises(Transient, match="in none of the plan's zones"):
            carry_out(order_of(world, "export_image"), world.backend)

    def test_hazard_11_a_vm_that_says_done_and_stays_on_ends_at_the_deadline(self) -> None:
        world = World(Guest(stays_on=True))
        build = world.run(whole_plan(deprecate_old=None))
        assert (build.outcome, build.reason) == (
            Outcome.TIMED_OUT,
            "not done 3600 s after the request, still exporting",
        )
        assert world.left() == {"machines": [], "disks": [], "images": [], "objects": []}

    def test_hazard_6_another_program_s_image_of_that_name_is_an_error_and_stays(self) -> None:
        world = world_at("export_image")
        world.compute.all_images[IMAGE] = older(IMAGE, 5)
        carry_out(order_of(world, "export_image"), world.backend)
        [failed] = facts(world)
        assert "made by another program" in getattr(failed, "reason", "")
        put(world, State.CLEANING, outcome=Outcome.FAILED)
        carry_out(order_of(world, "clean_up"), world.backend)
        assert world.compute.all_images[IMAGE] == older(IMAGE, 5)
        assert BOOT not in world.compute.disks

    def test_hazard_7_an_image_that_is_there_is_waited_for_and_not_taken_for_ready(self) -> None:
        world = world_at("export_image")
        carry_out(order_of(world, "export_image"), world.backend)
        world.compute.faults["create_image"] = Transient("the image is still being made")
        with pytest.raises(Transient, match="still being made"):
            carry_out(order_of(world, "export_image"), world.backend)


class TestVerifyImage:
    def test_a_vm_is_booted_from_the_new_image_with_the_verify_steps(self) -> None:
        world = world_at("verify_image")
        carry_out(order_of(world, "verify_image"), world.backend)
        request = world.compute.machines[VERIFY].request
        assert (request.source_image, request.job.phase, request.job.clean) == (IMAGE, "verify", False)
        assert request.job.key != world.keys.of_machine(values.BUILD_ID, 1, "build")

    def test_it_may_boot_in_another_way_than_the_one_that_builds(self) -> None:
        for asked, boot in (("", "direct"), ("firmware", "firmware")):
            world = world_at("verify_image")
            put(world, State.VERIFYING, plan=replace(whole_plan(), verify_boot=asked))
            carry_out(order_of(world, "verify_image"), world.backend)
            assert world.compute.machines[VERIFY].request.plan.boot == boot

    def test_the_next_one_takes_the_place_of_one_that_hangs(self) -> None:
        """A silent VM runs and costs money, and may take the last of a quota."""
        world = world_at("verify_image")
        carry_out(order_of(world, "verify_image"), world.backend)
        first, second = (resources.of_order(whole_plan(), "verify_image", number)[0] for number in (1, 2))
        put(world, State.VERIFYING, attempt=2, zone="", ledger=(*world.build().ledger, first, second))
        carry_out(replace(order_of(world, "verify_image"), attempt=2), world.backend)
        assert {VERIFY, second.name} & set(world.compute.machines) == {second.name}
        assert f"logs/{values.BUILD_ID}/{VERIFY}.log" in world.bucket.objects

    def test_one_that_claims_before_its_zone_is_known_is_looked_up_first(self) -> None:
        world = world_at("verify_image")
        order = order_of(world, "verify_image")
        carry_out(order, world.backend)
        claim(world)
        carry_out(order, world.backend)  # delivered again, since its first answer was lost
        assert [each.kind for each in facts(world)] == ["MachineStarted", "MachineStarted"]

    def test_one_that_claims_to_be_done_must_be_seen_stopped(self) -> None:
        world = world_at("verify_image")
        order = order_of(world, "verify_image")
        carry_out(order, world.backend)
        claim(world, zone="here")
        with pytest.raises(Transient, match="has not stopped after 120 s"):
            carry_out(order, world.backend)
        world.compute.machines[VERIFY].stop()
        carry_out(order, world.backend)
        stop = facts(world)[-1]
        assert isinstance(stop, MachineStopped)
        assert (stop.attempt, stop.phase, stop.claim) == (1, "verify", COMPLETED)


class TestConsoles:
    """Compute Engine promises serial output of running VMs alone."""

    def test_hazard_13_the_console_is_stored_before_the_vm_has_stopped(self) -> None:
        world = world_at("export_image")
        world.compute.machines[VM].serial[1] = b"[step greet] hello\n"
        carry_out(order_of(world, "export_image"), world.backend)
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

    def label_image(self, image: Image, labels: Mapping[str, str]) -> None:
        super().label_image(image, labels)
        if BUILD_LABEL not in labels:
            self._shown.append(f"labels {', '.join(labels)}")


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
        backend = replace(world.backend, bucket=bucket, compute=WatchedCompute(world, bucket))
        commit(world, backend)
        assert (bucket.shown, world.compute.all_images[IMAGE].family) == ([], None)
        assert not set(PUBLISHED) & set(world.bucket.objects)
        publish(world, backend)
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
            carry_out(order_of(world, "label_image", 2), replace(world.backend, store=store))
        assert world.compute.all_images[IMAGE].family is None
        carry_out(order_of(world, "label_image", 2), world.backend)  # the next delivery
        assert not set(PUBLISHED) & set(world.bucket.objects)
        assert world.compute.all_images[IMAGE].family is None

    def test_a_kept_image_leaves_its_family_and_carries_its_end(self) -> None:
        world = publish(world_at("label_image"))
        build, until = world.build(), values.NOON + 60
        ledger = tuple(replace(entry, keep=entry.kind == "image") for entry in build.ledger)
        kept = {"kept_until": until, "files": build.files, "image": build.image, "ledger": ledger}
        put(world, State.CLEANING, outcome=Outcome.FAILED, **kept)
        carry_out(order_of(world, "clean_up", 3), world.backend)
        image = world.compute.all_images[IMAGE]
        assert (image.family, image.labels["goldsmith-expires"]) == (None, str(int(until)))
        assert not set(PUBLISHED) & set(world.bucket.objects)

    def test_a_kept_image_that_has_failed_its_verification_says_so_instead_of_its_digest(self) -> None:
        world = world_at("verify_image")
        build, until = world.build(), values.NOON + 60
        ledger = tuple(replace(entry, keep=entry.kind == "image") for entry in build.ledger)
        kept = {"kept_until": until, "unfit": True, "image": build.image, "ledger": ledger}
        put(world, State.CLEANING, outcome=Outcome.FAILED, **kept)
        carry_out(order_of(world, "clean_up", 3), world.backend)
        labels = world.compute.all_images[IMAGE].labels
        assert (labels["goldsmith-verify"], labels["goldsmith-expires"]) == ("failed", str(int(until)))
        assert "goldsmith-digest" not in labels

    def test_a_file_that_cannot_be_taken_back_keeps_no_image_in_its_family(self) -> None:
        world = publish(world_at("label_image"))
        build = world.build()
        put(world, State.CLEANING, outcome=Outcome.FAILED, kept_until=values.NOON, files=build.files, image=build.image)
        backend = replace(world.backend, bucket=Barred(world))
        carry_out(order_of(world, "clean_up", 3), backend)
        assert all(image.family is None for image in world.compute.all_images.values() if image.name == IMAGE)
        assert getattr(facts(world)[-1], "remaining", None) == ()

    def test_our_own_labels_go_before_the_family_comes(self) -> None:
        """output.own_labels: false: with them until the end, without them once others look."""
        world = commit(world_at("label_image", unlabelled_plan()))
        bucket = Watched(world)
        backend = replace(world.backend, bucket=bucket, compute=WatchedCompute(world, bucket))
        assert world.compute.all_images[IMAGE].labels == unlabelled_plan().image.labels
        carry_out(order_of(world, "label_image", 2), backend)
        assert world.compute.all_images[IMAGE].labels == {"team": "infra"}
        assert bucket.shown[-2:] == ["labels team", "family hello"]

    @pytest.mark.parametrize("sees", ["build", "image"])
    def test_a_first_stage_that_comes_late_leaves_labels_as_the_second_has_left_them(self, sees: str) -> None:
        """It has looked at the build, or at both, before the second stage of another delivery took our labels off."""
        world = world_at("label_image", unlabelled_plan())
        late = replace(world.backend, store=LooksEarly(world, looks=2 if sees == "image" else 1))
        if sees == "image":
            late = replace(late, compute=ShowsEarly(world))
        commit(world)
        carry_out(order_of(world, "label_image", 2), world.backend)
        assert world.compute.all_images[IMAGE].labels == {"team": "infra"}
        with pytest.raises(Transient, match="too late" if sees == "build" else "changed meanwhile"):
            carry_out(order_of(world, "label_image"), late)
        assert world.compute.all_images[IMAGE].labels == {"team": "infra"}

    def test_an_image_in_the_place_of_ours_gets_no_labels(self) -> None:
        world = world_at("label_image")
        world.compute.all_images[IMAGE] = other = replace(world.compute.all_images[IMAGE], id="another")
        carry_out(order_of(world, "label_image"), world.backend)
        assert [getattr(fact, "reason", "") for fact in facts(world)] == [
            f"image {IMAGE} of project {other.project} is gone; build again"
        ]
        assert world.compute.all_images[IMAGE] == other

    def test_what_was_shown_elsewhere_is_taken_back_by_the_account_that_may(self) -> None:
        to = "gs://other/hello.spdx.json"
        world = commit(world_at("label_image", whole_plan(sbom_to=to)), result="results/hello-1.json")
        world.compute.faults["set_family"] = Permanent("403")
        carry_out(order_of(world, "label_image", 2), world.backend)
        assert (kinds(world), to in world.bucket.objects) == ({"OrderFailed"}, True)
        build = world.build()
        over = {"outcome": Outcome.FAILED, "withdrawing": values.NOON + 60, "committed": values.NOON}
        put(world, State.CLEANING, files=build.files, image=build.image, **over)
        world.bus.waiting.clear()
        carry_out(order_of(world, "label_image", 3), world.backend)
        assert facts(world) == [
            values.publication_withdrawn(event_id="o3-PublicationWithdrawn", time=values.NOON, left=())
        ]
        assert not {to, *PUBLISHED} & set(world.bucket.objects)

    def test_a_file_that_may_not_be_taken_back_is_told(self) -> None:
        world = publish(world_at("label_image"))
        build = world.build()
        over = {"outcome": Outcome.FAILED, "withdrawing": values.NOON + 60}
        put(world, State.CLEANING, files=build.files, image=build.image, **over)
        carry_out(order_of(world, "label_image", 3), replace(world.backend, bucket=Barred(world)))
        [left] = [fact.left for fact in facts(world) if isinstance(fact, PublicationWithdrawn)]
        assert {text.partition(":")[0] for text in left} == {file.name for file in build.files}

    def test_an_image_that_stays_in_its_family_is_deleted_and_not_said_to_be_kept(self) -> None:
        world = publish(world_at("label_image"))
        build = world.build()
        kept = {"outcome": Outcome.FAILED, "kept_until": values.NOON + 60, "result": "results/hello-1.json"}
        put(world, State.CLEANING, files=build.files, image=build.image, **kept)
        world.compute.faults["set_family"] = Permanent("its family is still hello")
        carry_out(order_of(world, "clean_up", 3), world.backend)
        text = f"image {IMAGE} could not leave its family, and was deleted: its family is still hello"
        assert IMAGE not in world.compute.all_images
        assert getattr(facts(world)[-1], "lost", "") == text
        result = json.loads(world.bucket.objects["results/hello-1.json"])
        assert (result["kept"], result["left"]) == (None, [])
        assert result["reason"].endswith(text)
        carry_out(order_of(world, "clean_up", 4), world.backend)  # the first one may have died before it said so
        assert getattr(facts(world)[-1], "lost", "") == f"image {IMAGE}, which was to be kept, is gone"

    def test_hazard_6_another_archive_of_that_name_is_an_error_and_stays_with_its_manifest(self) -> None:
        world = world_at("label_image")
        world.bucket.objects |= {ARCHIVE: b"another", "out/hello.json": b"{}"}
        publish(world)
        assert kinds(world) == {"OrderFailed"}
        put(world, State.CLEANING, outcome=Outcome.FAILED, files=world.build().files, image=world.build().image)
        carry_out(order_of(world, "clean_up", 3), world.backend)
        assert (world.bucket.objects[ARCHIVE], world.bucket.objects["out/hello.json"]) == (b"another", b"{}")

    def test_hazard_10_a_fact_that_fails_is_ensured_again_alone(self) -> None:
        world = world_at("label_image")
        world.compute.faults["packages"] = Transient("busy")
        with pytest.raises(Transient):
            carry_out(order_of(world, "label_image"), world.backend)
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
        carry_out(order_of(world, "deprecate_images"), world.backend)
        old = world.compute.all_images["old"]
        assert (old.deprecated, old.replacement, old.deletes_at) == ("DEPRECATED", IMAGE, values.NOON + 60)
        assert facts(world) == [
            values.images_deprecated(event_id="o1-ImagesDeprecated", time=values.NOON, names=("old", "older"))
        ]

    def test_hazard_15_an_older_build_never_deprecates_a_newer_image(self) -> None:
        world = self.published(older("newer", -10))
        carry_out(order_of(world, "deprecate_images"), world.backend)
        assert self.deprecated(world) == {"old"}

    def test_hazard_10_the_newest_older_ones_stay_active_when_asked_and_ours_always(self) -> None:
        world = self.published(*(older(f"older-{age}", 2000 + age) for age in range(3)), keep=2)
        for number in (1, 2):
            carry_out(order_of(world, "deprecate_images", number), world.backend)
            assert self.deprecated(world) == {"older-1", "older-2"}

    def test_hazard_10_other_families_are_left_alone(self) -> None:
        world = self.published(older("other", 2000, family="other"), older("none", 2000, family=None))
        carry_out(order_of(world, "deprecate_images"), world.backend)
        assert self.deprecated(world) == {"old"}

    @pytest.mark.parametrize("family", ["", None])
    def test_hazard_10_an_empty_family_is_refused(self, family: str | None) -> None:
        world = world_at("deprecate_images", whole_plan(family=family))
        carry_out(order_of(world, "deprecate_images"), world.backend)
        assert kinds(world) == {"OrderFailed"}
        assert self.deprecated(world) == set()

    def test_hazard_10_errors_are_collected_and_the_others_are_done(self) -> None:
        world = self.published(older("older", 2000))
        world.compute.faults["deprecate_image"] = Permanent("old is locked")
        carry_out(order_of(world, "deprecate_images"), world.backend)
        assert self.deprecated(world) == {"older"}
        assert [getattr(fact, "reason", "") for fact in facts(world)] == ["old is locked"]

    def test_images_that_are_not_ours_are_left_alone_unless_their_family_is_adopted(self) -> None:
        """Whatever labels they carry: cases of a hand-made golden image in a family that a spec names."""
        forged = older("forged", 2000, labels={"goldsmith-build": values.BUILD_ID, "goldsmith-digest": "d" * 40})
        for adopted, expected in (((), set()), (("other",), set()), (("hello",), {"old", "forged"})):
            world = self.published(forged)
            carry_out(order_of(world, "deprecate_images"), replace(world.backend, adopted_families=adopted))
            assert self.deprecated(world) == expected

    def test_our_own_older_image_is_deprecated_without_adoption(self) -> None:
        world = self.published(older("mine", 2000))
        known = ImageDocument("local", "mine", "mine-0123456789ab", "d1", state="published", id="sha256-mine")
        world.store.create(values.build(id="mine-0123456789ab"), values.requested(build_id="mine-0123456789ab"), known)
        carry_out(order_of(world, "deprecate_images"), replace(world.backend, adopted_families=()))
        assert self.deprecated(world) == {"mine"}

    def test_an_image_that_has_left_the_family_retires_none(self) -> None:
        world = self.published()
        world.compute.set_family("local", IMAGE, None)
        carry_out(order_of(world, "deprecate_images"), world.backend)
        assert "is not in family hello" in getattr(facts(world)[0], "reason", "")
        assert self.deprecated(world) == set()

    def test_nothing_is_deprecated_for_a_build_that_is_not_published(self) -> None:
        """An order of the release before, which gave it while a build could still be cancelled."""
        world = self.published()
        put(world, State.CLEANING, outcome=Outcome.CANCELLED, retiring=False)
        carry_out(order_of(world, "deprecate_images"), world.backend)
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
        carry_out(order_of(world, "clean_up"), world.backend)
        assert world.left()["machines"] == []
        logs = [uri for uri in world.bucket.objects if uri.startswith("logs/")]
        assert logs == [f"logs/{values.BUILD_ID}/{VM}.log", f"logs/{values.BUILD_ID}/{VERIFY}.log"]

    def test_hazard_13_a_vm_whose_log_cannot_be_stored_yet_stays(self) -> None:
        world = world_at("clean_up")
        world.compute.faults["serial_output"] = Transient("busy")
        carry_out(order_of(world, "clean_up"), world.backend)
        assert world.left()["machines"] == [VM]
        assert [entry.name for entry in getattr(facts(world)[0], "remaining", ())] == [VM, BOOT, SCRATCH]

    @pytest.mark.parametrize("fault", [NoSpace("full"), Permanent("forbidden"), GoldsmithError("odd")])
    def test_a_log_that_can_never_be_stored_does_not_keep_a_vm_alive(self, fault: GoldsmithError) -> None:
        """On a full disk, the VM's own disk is what has to go to make room."""
        world = world_at("clean_up")
        carry_out(order_of(world, "clean_up"), replace(world.backend, bucket=FullBucket(fault)))
        assert (world.left()["machines"], world.left()["disks"]) == ([], [])

    @pytest.mark.parametrize("fault", [Transient("busy"), Permanent("forbidden"), EnvironmentFault("odd")])
    def test_what_cannot_be_deleted_remains_and_the_rest_goes(self, fault: GoldsmithError) -> None:
        world = world_at("clean_up")
        world.compute.faults["delete"] = fault
        carry_out(order_of(world, "clean_up"), world.backend)
        assert [entry.name for entry in getattr(facts(world)[0], "remaining", ())] == [VM, BOOT, SCRATCH]
        carry_out(order_of(world, "clean_up", 2), world.backend)
        assert facts(world)[1] == values.cleaned_up(event_id="o2-CleanedUp", time=values.NOON)

    @pytest.mark.parametrize("zone", ["", "full"])
    def test_it_looks_in_all_zones_of_the_plan(self, zone: str) -> None:
        """A worker that died may have made things in a zone that no event has named."""
        world = world_at("clean_up")
        put(world, State.CLEANING, outcome=Outcome.FAILED, zone=zone)
        carry_out(order_of(world, "clean_up"), world.backend)
        assert (world.left()["machines"], world.left()["disks"]) == ([], [])

    def test_what_is_kept_stays(self) -> None:
        world = world_at("clean_up")
        image = LedgerEntry("image", IMAGE, "local")
        put(world, State.CLEANING, outcome=Outcome.SUCCEEDED, ledger=(replace(image, keep=True),))
        carry_out(order_of(world, "clean_up"), world.backend)
        assert IMAGE in world.compute.all_images

    def test_of_a_build_that_is_being_published_the_vms_and_disks_go_and_stay_in_the_ledger(self) -> None:
        world = world_at("label_image")
        build = put(world, State.PUBLISHING, committed=values.NOON, result="results/hello.json")
        before = world.left()
        carry_out(order_of(world, "clean_up"), world.backend)
        assert world.left() == before | {"machines": [], "disks": []}
        assert facts(world) == [values.cleaned_up(event_id="o1-CleanedUp", time=values.NOON, remaining=build.ledger)]

    def test_a_rejected_build_has_nothing_to_clean(self) -> None:
        world = World()
        world.store.create(begin(values.rejected()).build, values.rejected())
        carry_out(order_of(world, "clean_up"), world.backend)
        assert kinds(world) == {"CleanedUp"}


class FullBucket(MemoryBucket):
    """Takes nothing more, and lets everything go."""

    def __init__(self, fault: GoldsmithError) -> None:
        super().__init__()
        self._fault = fault

    def write(self, uri: str, data: bytes) -> None:
        raise self._fault
