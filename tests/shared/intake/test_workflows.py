"""Uploaded workflows: each build that waits for nothing begins at once, the others when those before them have."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from shared.build.build import Build, Outcome, State
from shared.build.damage import readable_builds
from shared.build.identity import build_id
from shared.build.image.people import PersonRule
from shared.build.limits import NO_LIMITS
from shared.errors import Conflict, NotFound, Transient
from shared.submission import CONTEXT_METADATA, PARAMETERS_METADATA, object_request
from shared.topology import FOLLOWED
from tests.world.intake import BUCKET, PLAIN, SCRIPT, Desk, planned, reason
from tests.world.packed_context import packed_context
from tests.world.world import Guest

NAME = "specs/team/cloudbuild.yaml"
RESULTS = f"gs://{BUCKET}/results/team/cloudbuild"
CUSTOMIZER = "gcr.io/cos-cloud/cos-customizer"


def image(name: str, *after: str, script: str = "", source: str = "debian-12-1", context: str = ".") -> str:
    """Write the steps of one build, which has a state of its own; `after` are the images that it waits for."""

    def step(end: str, waits: list[str], *arguments: str) -> str:
        listed = json.dumps([f"-local-state-workdir={name}", *arguments])
        return f"- name: {CUSTOMIZER}\n  id: {name}-{end}\n  waitFor: {json.dumps(waits)}\n  args: {listed}\n"

    start = [f"-image-name={source}", "-image-project=my-images", "-gcs-bucket=b", "-gcs-workdir=w"]
    finish = ["-zone=us-west1-b", "-project=$PROJECT_ID", f"-image-name={name}", "-image-project=$PROJECT_ID"]
    return (
        step(
            "start",
            [f"{each}-end" for each in after] or ["-"],
            "start-image-build",
            f"-build-context={context}",
            *start,
        )
        + (step("run", [f"{name}-start"], "run-script", f"-script={script}") if script else "")
        + step("end", [f"{name}-{'run' if script else 'start'}"], "finish-image-build", *finish)
    )


def workflow(*images: str) -> str:
    return "steps:\n" + "".join(images)


CHAIN = workflow(image("one"), image("two", "one"), image("three", "two"))
DIAMOND = workflow(image("a", script="preload.sh"), image("b"), image("c", "a", "b"))


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    made.put("specs/team/preload.sh", SCRIPT)
    return made


def begin(desk: Desk, text: str, **metadata: str) -> list[Build]:
    """Upload a workflow; return the builds that begin at once."""
    generation = desk.put(NAME, text, {key.replace("_", "-"): value for key, value in metadata.items()})
    return list(desk.intake.uploaded(NAME, generation))


def hear(desk: Desk, *, times: int = 1) -> int:
    """Deliver what the subscription of start_build gets of builds-finished; return how much that was."""
    found = [message for message in desk.world.announced if FOLLOWED in message.attributes]
    desk.world.announced.clear()
    for message in found * times:
        desk.intake.finished(message.attributes["build_id"])
    return len(found)


def run(desk: Desk, *, times: int = 1) -> dict[str, Build]:
    """Work until nothing is left to do; return the builds by name."""
    desk.world.finish()
    while hear(desk, times=times):
        desk.world.finish()
    return {build.name: build for build in readable_builds(desk.world.store.builds())}


class TestOneBuild:
    def test_is_as_of_a_spec(self, desk: Desk) -> None:
        [build] = begin(desk, workflow(image("one", script="preload.sh")))
        generation = desk.objects.live[f"gs://{BUCKET}/{NAME}"].generation
        assert build.id == build_id("one", object_request(BUCKET, NAME, generation))
        assert (build.result, build.workflow) == (f"{RESULTS}-{generation}.json", None)
        plan = planned(build)
        assert (plan.image.project, plan.machine.project, plan.image.name) == ("my-project", "my-project", "one")
        assert (plan.machine.zones, plan.steps[0].inputs["script"]) == (("us-west1-b",), "preload.sh")
        assert plan.context is not None

    def test_substitutions_are_parameters_and_cloud_builds_own(self, desk: Desk) -> None:
        text = workflow(image("one")).replace("-image-name=one", "-image-name=one-$_RELEASE-$LOCATION-$BUILD_ID")
        text += "substitutions: {_RELEASE: '1'}\n"
        names = [planned(begin(desk, text, **{PARAMETERS_METADATA: '{"_RELEASE": "2"}'})[0]).image.name for _ in "ab"]
        uuid = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
        assert all(re.fullmatch(f"one-2-global-{uuid}", name) for name in names)
        assert names[0] != names[1]  # of two uploads

    def test_second_delivery_is_the_first_ones_build(self, desk: Desk) -> None:
        [first] = begin(desk, workflow(image("one", script="preload.sh")))
        desk.objects.remove(f"gs://{BUCKET}/specs/team/preload.sh")
        [again] = desk.intake.uploaded(NAME, "2")
        assert (again.id, again.plan, desk.made()) == (first.id, first.plan, 1)

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            (workflow(image("one", script="other.sh")), "'other.sh' is not in the context gs://"),
            (workflow(image("one")).replace("-zone", "-zones"), "steps[1] -zones: unknown flag; did you mean -zone?"),
            (workflow(image("one", "zero")), "waitFor"),
            ("steps:\n- name: gcr.io/cloud-builders/gsutil\n  args: [ls]\n", "goldsmith reads workflows"),
            (
                workflow(image("one")).replace("=one", "=one-$PROJECT_NUMBER"),
                "'$PROJECT_NUMBER' is not known here; write its value out",
            ),
        ],
        ids=["no script", "unknown flag", "waits for an unknown build", "no customizer", "unknown substitution"],
    )
    def test_bad_workflow_is_one_build_that_says_so(self, desk: Desk, text: str, told: str) -> None:
        [build] = begin(desk, text)
        assert told in reason(build)
        assert reason(build).startswith(f"gs://{BUCKET}/{NAME}:")
        generation = desk.objects.live[f"gs://{BUCKET}/{NAME}"].generation
        [again] = desk.intake.uploaded(NAME, generation)
        assert (again.id, desk.made()) == (build.id, 1)

    def test_of_a_published_request(self, desk: Desk) -> None:
        desk.put(NAME, workflow(image("one-$_X")) + "substitutions: {_X: '1'}\n")
        build = desk.publish(spec=f"gs://{BUCKET}/{NAME}", parameters={"_X": "2"})
        assert planned(build).image.name == "one-2"
        assert build.result.startswith(f"{RESULTS}-17-")

    def test_of_a_request_that_holds_it(self, desk: Desk) -> None:
        told = reason(desk.publish(spec=workflow(image("one"))))
        assert "steps[0] -build-context: is relative, and this spec lies beside nothing" in told


class TestSeveralBuilds:
    def test_only_those_that_wait_for_nothing_begin(self, desk: Desk) -> None:
        assert [build.name for build in begin(desk, DIAMOND)] == ["a", "b"]
        assert desk.made() == 2

    def test_order_of_the_file_without_wait_for(self, desk: Desk) -> None:
        text = re.sub(r"  waitFor: .*\n", "", CHAIN)
        assert [build.name for build in begin(desk, text)] == ["one"]

    @pytest.mark.parametrize("times", [1, 3])
    @pytest.mark.parametrize("text", [CHAIN, DIAMOND], ids=["chain", "diamond"])
    def test_others_begin_when_those_before_them_have_succeeded(self, desk: Desk, text: str, times: int) -> None:
        begin(desk, text)
        builds = run(desk, times=times)
        assert len(builds) == desk.made() == 3
        assert {build.outcome for build in builds.values()} == {Outcome.SUCCEEDED}
        created = {name: build.created for name, build in builds.items()}
        last = "three" if text == CHAIN else "c"
        assert all(created[last] > created[name] for name in created if name != last)
        for name, build in builds.items():
            document = json.loads(desk.world.bucket.objects[build.result])
            assert (document["name"], document["outcome"]) == (name, "succeeded")

    def test_results_are_told_apart(self, desk: Desk) -> None:
        begin(desk, CHAIN)
        builds = run(desk)
        assert [builds[name].result for name in ("one", "two", "three")] == [
            f"{RESULTS}-2.json",
            f"{RESULTS}-2~2.json",
            f"{RESULTS}-2~3.json",
        ]

    def test_one_of_two_that_are_waited_for_is_not_enough(self, desk: Desk) -> None:
        first = image("a", context="preload.sh")  # and not the workflow itself, which would be another content
        begin(desk, workflow(first))
        run(desk)
        desk.world.guest = Guest(silent=True)
        a, b = begin(desk, workflow(first, image("b"), image("c", "a", "b")))
        desk.world.settle()
        assert (desk.world.build(a.id).outcome, desk.world.build(b.id).outcome) == (Outcome.UNCHANGED, None)
        assert hear(desk) == 1
        assert [build.name for build in readable_builds(desk.world.store.builds())].count("c") == 0
        desk.world.cancel(b.id)
        assert run(desk)["c"].reason.startswith(f"waits for build {b.id}, which is cancelled;")

    def test_unchanged_is_as_good_as_made(self, desk: Desk) -> None:
        begin(desk, CHAIN)
        run(desk)
        begin(desk, CHAIN)
        run(desk)
        outcomes = [str(build.outcome) for build in readable_builds(desk.world.store.builds())]
        assert sorted(outcomes) == [Outcome.SUCCEEDED] * 3 + [Outcome.UNCHANGED] * 3

    def test_failed_build_rejects_those_that_wait_for_it(self, desk: Desk) -> None:
        desk.world.guest = Guest(fails_at=0)
        begin(desk, DIAMOND)
        builds = run(desk)
        assert (builds["a"].outcome, builds["b"].outcome) == (Outcome.FAILED, Outcome.SUCCEEDED)
        assert builds["c"].plan is None
        assert builds["c"].reason == (
            f"waits for build {builds['a'].id}, which is failed; mend that one, and upload the workflow again"
        )
        assert json.loads(desk.world.bucket.objects[builds["c"].result])["reason"] == builds["c"].reason

    def test_rejection_goes_on_down_the_line(self, desk: Desk) -> None:
        [one] = begin(desk, CHAIN.replace("debian-12-1", "debian-12-0", 1))
        builds = run(desk)
        assert "has no image debian-12-0" in builds["one"].reason
        assert builds["two"].reason.startswith(f"waits for build {one.id}, which is failed;")
        assert builds["three"].outcome is Outcome.FAILED

    def test_source_of_a_build_may_be_what_the_one_before_makes(self, desk: Desk) -> None:
        second = image("two", "one", source="one").replace("-image-project=my-images", "-image-project=$PROJECT_ID")
        begin(desk, workflow(image("one"), second))
        builds = run(desk)
        assert builds["two"].outcome is Outcome.SUCCEEDED
        assert planned(builds["two"]).source.name == "one"

    def test_workflow_that_was_replaced_rejects_those_that_wait(self, desk: Desk) -> None:
        begin(desk, CHAIN)
        desk.put(NAME, CHAIN)
        builds = run(desk)
        assert builds["one"].outcome is Outcome.SUCCEEDED
        assert builds["two"].reason == (
            f"gs://{BUCKET}/{NAME} was replaced or deleted while its builds were under way; upload it again"
        )
        assert builds["three"].reason.startswith(f"waits for build {builds['two'].id}, which is failed")

    def test_all_is_found_out_before_anything_begins(self, desk: Desk) -> None:
        builds = begin(desk, workflow(image("one"), image("two", "one", script="other.sh"), image("three")))
        assert [build.name for build in builds] == ["one", "three"]
        assert all("'other.sh' is not in the context" in reason(build) for build in builds)

    @pytest.mark.parametrize("fault", [Transient("unavailable"), Conflict("another writer")])
    def test_what_may_pass_is_raised_and_works_later(self, desk: Desk, fault: Exception) -> None:
        begin(desk, workflow(image("one"), image("two", "one")))
        desk.world.finish()
        desk.world.compute.faults["image"] = fault
        with pytest.raises(type(fault)):
            desk.intake.finished(desk.world.announced[0].attributes["build_id"])
        assert desk.made() == 1
        assert run(desk)["two"].outcome is Outcome.SUCCEEDED

    @pytest.mark.parametrize("call", range(2, 30, 3))
    def test_process_that_is_killed_leaves_nothing_out(self, desk: Desk, call: int) -> None:
        """Redelivery completes what a process has begun that died at any call, before or between two builds."""
        generation = desk.put(NAME, DIAMOND)
        desk.world.burn_at(call)
        desk.world.survives(lambda: desk.intake.uploaded(NAME, generation))
        desk.world.burn_at(None)
        assert [build.name for build in desk.intake.uploaded(NAME, generation)] == ["a", "b"]
        desk.world.finish()
        message = desk.world.announced[-1]
        desk.world.burn_at(call)
        desk.world.survives(lambda: desk.intake.finished(message.attributes["build_id"]))
        desk.world.burn_at(None)
        assert {name: build.outcome for name, build in run(desk).items()} == dict.fromkeys("abc", Outcome.SUCCEEDED)
        assert desk.made() == 3

    def test_of_a_published_request_keep_its_parameters(self, desk: Desk) -> None:
        text = workflow(image("one"), image("two", "one")).replace("-image-name=two", "-image-name=two-$_X")
        desk.put(NAME, text + "substitutions: {_X: '1'}\n")
        request: dict[str, Any] = {"spec": f"gs://{BUCKET}/{NAME}", "parameters": {"_X": "2"}}
        first = desk.publish(**request)
        assert desk.publish(**request).id == first.id
        builds = run(desk)
        assert planned(builds["two-2"]).image.name == "two-2"
        assert builds["two-2"].result == first.result.replace(".json", "~2.json")

    def test_that_lie_nowhere_are_refused(self, desk: Desk) -> None:
        told = reason(desk.publish(spec=CHAIN))
        assert told == "a workflow of several builds is read again for each; upload it, and name the object here"

    def test_packed_context_is_of_one_folder(self, desk: Desk) -> None:
        data, digest = packed_context({"preload.sh": "echo hello"})
        packed = f"gs://{BUCKET}/uploads/{digest}.tar"
        desk.objects.put(packed, data)
        begin(desk, CHAIN, **{CONTEXT_METADATA: packed})
        contexts = [planned(build).context for build in run(desk).values()]
        assert [context and context.digest for context in contexts] == [digest] * 3
        [build] = begin(desk, workflow(image("one"), image("two", "one", context="b")), **{CONTEXT_METADATA: packed})
        assert "is not the context of the build before, and one upload has one packed context" in reason(build)


class TestFinished:
    def test_build_of_a_spec_is_followed_by_none(self, desk: Desk) -> None:
        build = desk.upload(PLAIN)
        desk.world.finish()
        [message] = desk.world.announced
        assert FOLLOWED not in message.attributes
        assert desk.intake.finished(build.id) == ()

    def test_last_build_of_a_workflow_is_followed_by_none(self, desk: Desk) -> None:
        begin(desk, workflow(image("one"), image("two", "one")))
        desk.world.finish()
        assert hear(desk) == 1
        desk.world.finish()
        assert [FOLLOWED in message.attributes for message in desk.world.announced] == [False]

    def test_build_that_is_not_finished_begins_nothing(self, desk: Desk) -> None:
        [one] = begin(desk, CHAIN)
        assert one.state is State.PREPARING
        assert desk.intake.finished(one.id) == ()
        assert desk.made() == 1

    def test_build_that_there_is_not(self, desk: Desk) -> None:
        with pytest.raises(NotFound):
            desk.intake.finished("one-0123456789ab")


def test_all_builds_of_a_workflow_have_the_author_of_the_upload(desk: Desk) -> None:
    desk.world.backend = replace(
        desk.world.backend, people=lambda: {"ann": PersonRule(("ann@example.com",), folder=True)}
    )
    desk.intake = desk.intake_with(NO_LIMITS)
    name = "specs/people/ann/cloudbuild.yaml"
    desk.intake.uploaded(name, desk.put(name, CHAIN))
    done = run(desk, times=2)
    assert {each: build.plan and build.plan.author for each, build in done.items()} == dict.fromkeys(
        ("one", "two", "three"), "ann@example.com"
    )
