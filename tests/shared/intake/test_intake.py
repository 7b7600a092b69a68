"""From an upload or a message to a build: the one that was asked for, or one that says what is wrong."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.build import resources
from shared.build.build import Outcome, State
from shared.build.identity import build_id, request_digest
from shared.build.limits import Limits
from shared.errors import Conflict, EnvironmentFault, InputError, Permanent, PoisonMessage, SpecError, Transient
from shared.intake.intake import Intake
from shared.intake.request import stem
from shared.submission import PARAMETERS_METADATA, TRACEPARENT_METADATA, object_request
from tests.shared.spec.reading import load_spec
from tests.world import values
from tests.world.intake import BUCKET, PLAIN, SCRIPT, SOURCE, SPEC, Desk, Place, planned, reason


@pytest.fixture
def desk() -> Desk:
    return Desk()


class TestUpload:
    def test_spec_becomes_a_build_of_the_deployment(self, desk: Desk) -> None:
        desk.put("specs/preload.sh", SCRIPT)
        build = desk.upload(SPEC)
        plan = planned(build)
        assert build.state is State.PREPARING
        assert build.id == build_id("hello", object_request(BUCKET, "specs/hello.yaml", "2"))
        assert build.result == f"gs://{BUCKET}/results/hello-2.json"
        assert (plan.image.project, plan.machine.project) == ("my-project", "my-project")
        assert plan.machine.zones == Place().zones
        assert plan.machine.service_account == Place().vm_service_account
        assert plan.source.id == SOURCE.id
        assert plan.steps[0].inputs["env"] == {"GREETING": "hello"}
        assert [message.attributes["order"] for message in desk.world.bus.published] == ["create_resources"]

    def test_what_the_spec_names_itself_is_kept(self, desk: Desk) -> None:
        plan = planned(
            desk.upload(
                PLAIN
                + "build: {project: builders-1, zones: [europe-west1-b], service_account: a@b}\n"
                + "output: {project: images-1}\n"
            )
        )
        assert (plan.image.project, plan.machine.project) == ("images-1", "builders-1")
        assert (plan.machine.zones, plan.machine.service_account) == (("europe-west1-b",), "a@b")

    def test_a_copy_in_another_location_is_one_of_the_deployments_project(self) -> None:
        desk = Desk(Limits(copy_projects=("my-project",)))
        image = planned(desk.upload(PLAIN + "output: {name: web, copies: [{storage_location: asia}]}\n")).image
        assert [(each.project, each.name_for(image)) for each in image.copies] == [("my-project", "web-asia")]
        refused = desk.upload(PLAIN + "output: {name: web, copies: [{project: my-project}]}\n")
        assert "project my-project has the image; write a storage_location for its copy" in reason(refused)

    def test_files_of_an_image_are_written_by_a_vm_to_a_bucket_of_the_deployment(self, desk: Desk) -> None:
        text = PLAIN + "output: {name: web, formats: [gce, vmdk], export: {to: gs://archives/web/}}\n"
        plan = planned(desk.upload(text))
        assert (plan.image.export_to, plan.image.formats) == ("gs://archives/web/web.tar.gz", ("gce", "vmdk"))
        assert plan.exporter is not None
        assert (plan.exporter.project, plan.exporter.family) == ("my-images", "debian-12")
        own = text.replace("archives/web", f"{BUCKET}/contexts").replace("name: web", "name: pond")
        assert f"{BUCKET} is this deployment's own bucket" in reason(desk.upload(own))
        desk.intake = Intake(desk.world.backend, desk.objects, Place(limits=Limits(export_buckets=("others",))))
        refused = reason(desk.upload(text.replace("name: web", "name: shop")))
        assert "output.export.to: archives is refused: export_buckets of this deployment is others" in refused
        desk.intake = Intake(desk.world.backend, desk.objects, Place(limits=Limits(max_disk_gb=15)))
        assert "disk of the VM that writes them" in reason(desk.upload(text.replace("name: web", "name: park")))

    def test_secure_boot_of_the_deployment_is_in_the_plan_which_tells_how_to_boot_a_kept_disk(self, desk: Desk) -> None:
        assert not planned(desk.upload(PLAIN)).machine.secure_boot
        desk.intake = Intake(desk.world.backend, desk.objects, Place(secure_boot=True))
        assert planned(desk.upload(PLAIN)).machine.secure_boot

    def test_same_upload_is_one_build_and_another_is_another(self, desk: Desk) -> None:
        first = desk.upload(PLAIN)
        [again] = desk.intake.uploaded("specs/hello.yaml", "1")
        assert (again.id, desk.made()) == (first.id, 1)
        assert desk.upload(PLAIN).id != first.id
        assert desk.made() == 2

    def test_second_delivery_is_the_first_ones_build_whatever_has_changed(self, desk: Desk) -> None:
        desk.put("specs/preload.sh", SCRIPT)
        first = desk.upload(SPEC)
        desk.objects.remove(f"gs://{BUCKET}/specs/preload.sh")
        desk.world.compute.all_images.clear()
        [again] = desk.intake.uploaded("specs/hello.yaml", "2")
        assert (again.id, again.plan) == (first.id, first.plan)
        assert desk.made() == 1

    def test_second_delivery_publishes_what_a_killed_first_one_has_left(self, desk: Desk) -> None:
        generation = desk.put("specs/hello.yaml", PLAIN)
        desk.world.burn_at(9)  # between the state and its order
        killed = not desk.world.survives(lambda: desk.intake.uploaded("specs/hello.yaml", generation))
        desk.world.burn_at(None)
        assert (killed, desk.made(), desk.world.bus.published) == (True, 1, [])
        assert desk.intake.uploaded("specs/hello.yaml", generation)
        assert len(desk.world.bus.published) == 1

    def test_upload_that_was_replaced_is_left_to_its_successor(self, desk: Desk) -> None:
        desk.put("specs/hello.yaml", PLAIN)
        desk.put("specs/hello.yaml", PLAIN)
        assert desk.intake.uploaded("specs/hello.yaml", "1") == ()
        assert desk.made() == 0

    def test_result_lies_below_results_as_the_spec_below_specs(self, desk: Desk) -> None:
        assert desk.upload(PLAIN, "specs/team/web.v2.yml").result == f"gs://{BUCKET}/results/team/web.v2-1.json"

    def test_parameters_stand_in_the_metadata(self, desk: Desk) -> None:
        desk.put("specs/preload.sh", SCRIPT)
        build = desk.upload(SPEC, **{PARAMETERS_METADATA: '{"greeting": "hi"}'})
        assert planned(build).steps[0].inputs["env"] == {"GREETING": "hi"}

    def test_the_trace_that_a_request_belongs_to_is_that_of_its_build_rejected_or_not(self, desk: Desk) -> None:
        place = f"00-{'a' * 32}-{'b' * 16}-01"
        metadata = {TRACEPARENT_METADATA: place}
        assert desk.upload(PLAIN, **metadata).traceparent == place
        rejected = desk.upload("name: [", "specs/bad.yaml", **metadata)
        assert (rejected.outcome, rejected.traceparent) == (Outcome.FAILED, place)
        assert desk.upload(PLAIN, **{TRACEPARENT_METADATA: "who knows"}).traceparent == ""
        [asked] = desk.intake.published(json.dumps({"spec": PLAIN}).encode(), "17", place)
        assert asked.traceparent == place

    @pytest.mark.parametrize("written", ["{", "[1]", '{"greeting": 1}', '"greeting"'])
    def test_parameters_that_are_none(self, desk: Desk, written: str) -> None:
        assert reason(desk.upload(SPEC, **{PARAMETERS_METADATA: written})).startswith("parameters are not texts by")

    def test_over_the_limit_of_builds_it_waits_for_its_turn(self) -> None:
        desk = Desk(Limits(concurrency=1))
        specs = [PLAIN.replace("name: hello", f"name: {name}") for name in ("one", "two")]
        first, second = (desk.upload(text, f"specs/{index}.yaml") for index, text in enumerate(specs))
        assert (first.state, second.state) == (State.PREPARING, State.QUEUED)
        desk.world.finish()
        assert [desk.world.build(each.id).outcome for each in (first, second)] == [Outcome.SUCCEEDED] * 2

    def test_two_of_one_content_at_once_make_one_image(self, desk: Desk) -> None:
        text = PLAIN + "rebuild: changed\noutput: {family: hello}\n"
        first, second = (desk.upload(text, f"specs/{name}.yaml") for name in ("one", "two"))
        assert (first.state, second.state) == (State.PREPARING, State.QUEUED)
        desk.world.finish()
        made, same = desk.world.build(first.id), desk.world.build(second.id)
        assert (made.outcome, same.outcome, same.image and same.image.name) == (
            Outcome.SUCCEEDED,
            Outcome.UNCHANGED,
            made.image and made.image.name,
        )

    def test_content_that_is_there_already_is_not_built_again(self, desk: Desk) -> None:
        built = desk.upload(PLAIN)
        desk.world.finish()
        assert desk.world.build(built.id).outcome is Outcome.SUCCEEDED
        assert desk.upload(PLAIN + "rebuild: changed\n").outcome is Outcome.UNCHANGED


class TestBadSpec:
    @pytest.mark.parametrize(
        "text",
        [
            b"name: [hello\n",
            b"\xff\xfe",
            b"just words",
            b"",
            PLAIN.encode() + b"stepz: []\n",
            PLAIN.replace("[]", "5").encode(),
            b"steps: []\na: &a [x, x]\nb: &b [*a, *a]\n" + b"c: [*b, *b]\n" * 2_000,
            PLAIN.encode() + b"context: nowhere\n",
            SPEC.encode(),
            b"x" * (50 << 20),
        ],
        ids=["no YAML", "no UTF-8", "text", "empty", "unknown key", "type", "bomb", "no context", "no script", "50 MB"],
    )
    def test_reason_is_what_validate_prints(self, desk: Desk, tmp_path: Path, text: bytes) -> None:
        path = tmp_path / "hello.yaml"
        path.write_bytes(text)
        with pytest.raises(SpecError) as caught:
            load_spec(path)
        found = reason(desk.upload(text))
        assert found == str(caught.value).replace(str(tmp_path), f"gs://{BUCKET}/specs")

    def test_50_mb_are_not_read(self, desk: Desk) -> None:
        desk.objects.put(f"gs://{BUCKET}/specs/hello.yaml", b"", size=50 << 20)
        [build] = desk.intake.uploaded("specs/hello.yaml", "1")
        assert (build.name, desk.objects.downloaded) == ("hello", [])

    @pytest.mark.parametrize(
        ("name", "build"),
        [
            ("specs/web.yaml", "web"),
            ("specs/team/My Web_Server.v2.YAML", "my-web-server-v2"),
            ("specs/2026.json", "spec"),
            ("specs/" + "long-" * 20 + ".yaml", "long-long-long-long-long-long-lo"),
            ("specs/x-.yml", "x"),
            ("specs/.yaml", "yaml"),
        ],
    )
    def test_build_of_an_unreadable_spec_is_named_after_its_object(self, desk: Desk, name: str, build: str) -> None:
        assert desk.upload("name: [", name).name == build == stem(name)

    def test_build_of_a_spec_with_a_name_has_that_name_whatever_else_is_wrong(self, desk: Desk) -> None:
        build = desk.upload(PLAIN.replace("name: hello", "name: ${who}") + "parameters: {who: web}\nstepz: []\n")
        assert build.name == "web"

    @pytest.mark.parametrize(
        ("more", "told"),
        [
            ("output: {export: {to: out.tar.gz}}", ":4:19: output.export.to: 'out.tar.gz' is no object; write gs://"),
            ("output: {formats: [raw]}", ":4:10: output.formats: are those of the files of output.export; write"),
            (
                "output: {export: {to: gs://archives/x.tar.gz}, formats: [oci]}",
                ":4:48: output.formats: oci cannot be written on Google Cloud; choose of gce, raw, qcow2, ",
            ),
            ("context: 5", ":4:1: context: "),
        ],
    )
    def test_what_only_one_machine_can_do(self, desk: Desk, more: str, told: str) -> None:
        assert told in reason(desk.upload(PLAIN + more + "\n"))

    def test_file_as_source(self, desk: Desk) -> None:
        told = reason(desk.upload("name: hello\nsource: {file: disk.raw}\nsteps: []\n"))
        assert ":2:10: source.file: can only be built from on one machine" in told
        assert "there is no file" not in told

    def test_a_root_from_nothing_is_made_by_a_vm_of_the_deployment_s_image(self, desk: Desk) -> None:
        desk.put("specs/base/root.tar", "a tar")
        plan = planned(desk.upload("name: hello\nsource: {rootfs: base/root.tar}\ncontext: .\nsteps: []\n"))
        assert plan.origin is not None
        assert (plan.origin.maker.id, plan.origin.place) == (SOURCE.id, "base/root.tar")
        assert plan.source.name.startswith("rootfs-")
        assert [entry.name[-4:] for entry in resources.of_order(plan, "create_resources", 1)] == [
            "1-vm",
            "boot",
            "root",
        ]
        assert f"gs://{BUCKET}/specs/base/root.tar" in desk.objects.downloaded

    @pytest.mark.parametrize(
        ("source", "told"),
        [
            ("{rootfs: root.tar}", "source.rootfs: root.tar is not in the context; upload it before the spec"),
            ("{rootfs: leads/root.tar}", "source.rootfs: leads/root.tar is not in the context"),
            ("{oci: ../image}", "source.oci: ../image lies outside of the context"),
            ("{file: disk.raw}", "source.file: can only be built from on one machine"),
        ],
    )
    def test_a_root_whose_files_are_not_there(self, desk: Desk, source: str, told: str) -> None:
        desk.put("specs/other/root.tar", "a tar")
        assert told in reason(desk.upload(f"name: hello\nsource: {source}\ncontext: .\nsteps: []\n"))
        assert not desk.world.compute.machines

    @pytest.mark.parametrize("image", ["projects/my-images/global/images/family/gone", "projects/p/global/images/gone"])
    def test_a_maker_image_that_is_not_there_is_the_deployment_s_fault(self, desk: Desk, image: str) -> None:
        desk.intake = Intake(desk.world.backend, desk.objects, Place(maker_image=image))
        text = "name: hello\nsource: {bootstrap: {distribution: debian, release: bookworm}}\nsteps: []\n"
        assert reason(desk.upload(text)) == (
            f"maker_image of this deployment is {image}, which is not there; ask those who deploy it"
        )

    def test_secure_boot_of_what_has_an_unsigned_boot_loader_is_refused(self, desk: Desk) -> None:
        text = "name: hello\nsource: {bootstrap: {distribution: debian, release: bookworm}}\nsteps: []\n"
        told = reason(desk.upload(text + "build: {secure_boot: true}\n"))
        assert told.startswith("build.secure_boot: starts signed programs alone, and the boot loader of a root from")
        assert "; leave the key out, or" in told
        desk.intake = Intake(desk.world.backend, desk.objects, Place(secure_boot=True))
        assert reason(desk.upload(text)).endswith("or ask those who deploy it to change secure_boot")

    def test_a_larger_root_than_the_deployment_allows_is_refused(self, desk: Desk) -> None:
        desk.intake = Intake(desk.world.backend, desk.objects, Place(limits=Limits(max_disk_gb=20)))
        text = "name: hello\nsource: {bootstrap: {distribution: debian, release: bookworm}}\nsteps: []\n"
        assert reason(desk.upload(text)) == (
            "output.disk_size_gb: the maker VM's boot disk of 30 GB (10 and twice output.disk_size_gb) is refused: "
            "max_disk_gb of this deployment is 20; write 5 or less, or ask those who deploy it to change max_disk_gb"
        )
        assert planned(desk.upload(text + "output: {disk_size_gb: 5}\n")).machine.disk_size_gb == 20
        told = reason(desk.upload(text + "output: {disk_size_gb: 21}\n"))
        assert "boot disk of 52 GB" in told
        desk.intake = Intake(desk.world.backend, desk.objects, Place(limits=Limits(max_disk_gb=11)))
        assert reason(desk.upload(text)).endswith("is 11; ask those who deploy it to change max_disk_gb")

    def test_source_that_does_not_exist(self, desk: Desk) -> None:
        told = reason(desk.upload(PLAIN.replace("debian-12", "debian-13")))
        wanted = "source.family: project my-images has no active image in family debian-13; did you mean debian-12?"
        assert told == wanted

    @pytest.mark.parametrize(
        "fault", [Permanent("zone mars1-a does not exist"), EnvironmentFault("quota CPUS is too small")]
    )
    def test_what_compute_engine_refuses(self, desk: Desk, fault: Exception) -> None:
        desk.world.compute.faults["check"] = fault
        assert reason(desk.upload(PLAIN)) == str(fault)

    def test_no_permission_to_read_the_context(self, desk: Desk) -> None:
        desk.objects.faults["gs://elsewhere/x.tar"] = Permanent("permission storage.objects.get is missing")
        told = reason(desk.upload(SPEC.replace("context: .", "context: gs://elsewhere/x.tar")))
        assert told == "permission storage.objects.get is missing"

    @pytest.mark.parametrize("fault", [Transient("unavailable"), Conflict("another writer")])
    def test_what_may_pass_is_raised_and_works_later(self, desk: Desk, fault: Exception) -> None:
        desk.world.compute.faults["images"] = fault
        generation = desk.put("specs/hello.yaml", PLAIN)
        with pytest.raises(type(fault)):
            desk.intake.uploaded("specs/hello.yaml", generation)
        assert desk.made() == 0
        [build] = desk.intake.uploaded("specs/hello.yaml", generation)
        assert build.state is State.PREPARING

    def test_other_files_of_a_context_ask_for_nothing(self, desk: Desk) -> None:
        generation = desk.put("specs/web/manifest.yaml", "kind: Pod\nspec: {}\n", {})
        assert desk.intake.uploaded("specs/web/manifest.yaml", generation) == ()
        assert desk.made() == 0
        assert list(desk.world.store.builds()) == []

    def test_rejected_build_leaves_its_result(self, desk: Desk) -> None:
        build = desk.upload("name: hello\nsource: {}\nstepz: []\n")
        desk.world.finish()
        document = json.loads(desk.world.bucket.objects[f"gs://{BUCKET}/results/hello-1.json"])
        assert desk.world.build(build.id).state is State.FINISHED
        assert (document["outcome"], document["reason"]) == ("failed", build.reason)


class TestMessage:
    def test_names_a_spec_in_the_bucket(self, desk: Desk) -> None:
        desk.put("specs/team/preload.sh", SCRIPT)
        desk.put("specs/team/hello.yaml", SPEC)
        build = desk.publish(spec=f"gs://{BUCKET}/specs/team/hello.yaml", parameters={"greeting": "hi"})
        assert planned(build).steps[0].inputs["env"] == {"GREETING": "hi"}
        assert planned(build).context is not None
        assert build.request == request_digest("message 17")
        assert re.fullmatch(f"gs://{BUCKET}/results/team/hello-17-[0-9a-f]{{12}}.request.json", build.result)

    @pytest.mark.parametrize(
        "spec", [PLAIN, {"name": "hello", "source": {"project": "my-images", "family": "debian-12"}, "steps": []}]
    )
    def test_holds_the_spec_itself(self, desk: Desk, spec: object) -> None:
        build = desk.publish(spec=spec)
        assert planned(build).source.id == SOURCE.id
        assert re.fullmatch(f"gs://{BUCKET}/results/hello-17-[0-9a-f]{{12}}.request.json", build.result)

    def test_key_makes_two_messages_one_build(self, desk: Desk) -> None:
        first = desk.publish("17", spec=PLAIN, idempotency_key="nightly/7")
        assert desk.publish("18", spec=PLAIN, idempotency_key="nightly/7").id == first.id
        assert desk.publish("19", spec=PLAIN).id != first.id
        key = request_digest("nightly/7")[:12]
        assert re.fullmatch(f"gs://{BUCKET}/results/hello-{key}-[0-9a-f]{{12}}.request.json", first.result)
        assert desk.publish("20", spec=PLAIN, idempotency_key="").id != first.id

    @pytest.mark.parametrize(
        "other",
        [
            {"spec": PLAIN + "description: other\n"},
            {"spec": PLAIN.replace("name: hello", "name: other")},
            {"spec": f"gs://{BUCKET}/specs/hello.yaml"},
            {"spec": PLAIN, "parameters": {"greeting": "hi"}},
            {"spec": "nothing"},
        ],
    )
    def test_key_of_another_request_is_refused(self, desk: Desk, other: dict[str, Any]) -> None:
        """It becomes a build of its own, whose result is not the first one's."""
        desk.put("specs/hello.yaml", PLAIN)
        first = desk.publish("17", spec=PLAIN, idempotency_key="k1")
        refused = desk.publish("18", **other, idempotency_key="k1")
        assert reason(refused)
        assert refused.id != first.id
        assert refused.result != first.result
        assert desk.publish("19", spec=PLAIN, idempotency_key="k1").id == first.id
        assert desk.publish("20", **other, idempotency_key="k1") == refused

    def test_a_refused_key_is_told(self, desk: Desk) -> None:
        desk.publish("17", spec=PLAIN, idempotency_key="k1")
        told = reason(desk.publish("18", spec=PLAIN + "description: other\n", idempotency_key="k1"))
        assert told.startswith("idempotency_key: another request was published with this key before")

    def test_key_that_is_a_generation_reaches_no_result_of_an_upload(self, desk: Desk) -> None:
        generation = desk.put("specs/alice/nightly.yaml", PLAIN)
        [alices] = desk.intake.uploaded("specs/alice/nightly.yaml", generation)
        mallorys = desk.publish(spec=f"gs://{BUCKET}/specs/alice/nightly.yaml", idempotency_key=generation)
        assert mallorys.id != alices.id
        assert mallorys.result != alices.result

    def test_key_of_the_release_before_is_not_built_twice(self, desk: Desk) -> None:
        """Its request is delivered again once the functions are new."""
        before = desk.upload(PLAIN, "specs/elsewhere.yaml")
        old = replace(before, id=build_id("hello", "key k1"), request=request_digest("key k1"), outbox=())
        desk.world.store.create(old, values.requested(build_id=old.id, event_id="request"))
        assert desk.publish("17", spec=PLAIN, idempotency_key="k1").id == old.id

    def test_key_of_no_text_is_one_as_well(self, desk: Desk) -> None:
        [build] = desk.intake.published(b'{"spec": "name: \\ud800", "idempotency_key": "\\ud800"}', "17")
        assert reason(build)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"{",
            b"[]",
            b"5",
            b'"gs://b/o"',
            b"{}",
            b'{"spec": 5}',
            b'{"spec": ""}',
            b'{"spec": {"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
            b"\xff",
        ],
    )
    def test_that_names_no_spec_is_poison(self, desk: Desk, data: bytes) -> None:
        with pytest.raises(PoisonMessage):
            desk.intake.published(data, "17")
        assert desk.made() == 0

    @pytest.mark.parametrize(
        ("request_", "told"),
        [
            ({"spec": "gs://b"}, "gs://b names no object; write gs://bucket/object"),
            ({"spec": f"gs://{BUCKET}/specs/"}, f"gs://{BUCKET}/specs/ does not exist; upload the spec first"),
            ({"spec": "gs://elsewhere//"}, "gs://elsewhere// does not exist; upload the spec first"),
            (
                {"spec": f"gs://{BUCKET}/specs/\ud800"},
                f"gs://{BUCKET}/specs/? names no object; write gs://bucket/object",
            ),
            ({"spec": "gs://elsewhere/no.yaml"}, "gs://elsewhere/no.yaml does not exist; upload the spec first"),
            ({"spec": f"gs://{BUCKET}/cidata/x.tar"}, "is neither below specs/ nor below uploads/"),
            ({"spec": PLAIN, "parameter": {}}, "'parameter' is no key of a request; write spec, parameters, idem"),
            ({"spec": PLAIN, "parameters": {"n": 5}}, "parameters are not texts by name"),
            ({"spec": PLAIN, "parameters": {"n": "5"}}, "spec:1:1: parameters"),
            ({"spec": SPEC}, "spec:8:1: context: is relative, and this spec lies beside nothing; write gs://bucket"),
            ({"spec": {"name": "hello", "stepz": []}}, "spec:3:3: stepz: unknown key; did you mean steps?"),
            ({"spec": "x" * (2 << 20)}, "spec:1:1: spec: is longer than 1 MiB"),
        ],
    )
    def test_with_bad_input(self, desk: Desk, request_: dict[str, Any], told: str) -> None:
        build = desk.publish(**request_)
        assert told in reason(build)
        assert build.result.startswith(f"gs://{BUCKET}/results/")
        assert (build.result + build.reason).isascii()
        assert desk.publish(**request_).id == build.id


class Versions:
    """Secrets whose newest versions a test sets."""

    def __init__(self, **newest: int) -> None:
        self.known = newest
        self.asked: list[str] = []

    def newest(self, secret: str) -> int:
        self.asked.append(secret)
        name = secret.rpartition("/")[2]
        if name not in self.known:
            raise InputError(f"{secret}/versions/latest: not found")
        return self.known[name]


LATEST = """\
name: hello
source: {project: my-images, family: debian-12}
build: {service_account: a@b}
rebuild: changed
steps:
  - name: fetch
    action: run-script
    inputs: {script: preload.sh}
    secrets: {TOKEN: projects/p/secrets/token/versions/latest, OLD: projects/p/secrets/old/versions/3}
  - name: again
    action: run-script
    inputs: {script: preload.sh}
    secrets: {TOKEN: projects/p/secrets/token/versions/latest}
verify:
  steps:
    - name: look
      action: run-script
      inputs: {script: preload.sh}
      secrets: {OTHER: projects/p/secrets/other/versions/latest}
context: .
"""


class TestLatestVersions:
    def desk(self, versions: Versions) -> Desk:
        desk = Desk()
        desk.intake = Intake(replace(desk.world.backend, secret_versions=versions), desk.objects, Place())
        desk.put("specs/preload.sh", SCRIPT)
        return desk

    def test_the_plan_has_their_numbers_each_looked_up_once(self) -> None:
        versions = Versions(token=7, other=2)
        plan = planned(self.desk(versions).upload(LATEST))
        found = [dict(step.secrets) for step in (*plan.steps, *(plan.verify_steps or ())) if step.secrets]
        token = "projects/p/secrets/token/versions/7"
        assert found == [
            {"TOKEN": token, "OLD": "projects/p/secrets/old/versions/3"},
            {"TOKEN": token},
            {"OTHER": "projects/p/secrets/other/versions/2"},
        ]
        assert versions.asked == ["projects/p/secrets/token", "projects/p/secrets/other"]

    def test_a_new_version_is_a_change_and_the_same_one_is_none(self) -> None:
        versions = Versions(token=7, other=2)
        desk = self.desk(versions)
        first = planned(desk.upload(LATEST))
        assert planned(desk.upload(LATEST)).content_digest == first.content_digest
        versions.known["token"] = 8
        assert planned(desk.upload(LATEST)).content_digest != first.content_digest

    def test_a_request_that_comes_again_keeps_its_number(self) -> None:
        versions = Versions(token=7, other=2)
        desk = self.desk(versions)
        build = desk.upload(LATEST)
        versions.known["token"] = 8
        [again] = desk.intake.uploaded("specs/hello.yaml", "2")
        assert (again.id, again.plan) == (build.id, build.plan)

    def test_one_that_cannot_be_looked_up_is_rejected_with_its_step(self) -> None:
        told = reason(self.desk(Versions(token=7)).upload(LATEST))
        assert told == "steps: look: secrets.OTHER: projects/p/secrets/other/versions/latest: not found"
