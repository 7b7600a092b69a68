"""goldsmith submit, and goldsmith builds against a project: the same words and looks as on one machine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from emulator.cloud.cloud import Cloud
from emulator.pubsub.courier import Faults
from emulator.web.processes import free_port
from shared.build.build import State
from tests.cloud.person import Person
from tests.docs.pages import commands
from tests.docs.reader import Reader
from tests.installation import installed_goldsmith
from tests.system.terminal import Terminal

pytestmark = pytest.mark.vm


def test_submit_of_an_installed_wheel_follows_the_build_to_its_image(person: Person, tmp_path: Path) -> None:
    folder = person.spec("submitted", replace={"family: hello": "family: submitted"})
    installed = replace(person, launcher=installed_goldsmith(tmp_path))
    planned = json.loads(person.goldsmith("plan", folder / "build.yaml", "--set", "greeting=ahoy", "--json"))
    assert [grant["variable"] for grant in planned["permissions"]] == ["source_projects"], (
        "it begins with a private image"
    )
    printed = installed.goldsmith("submit", folder / "build.yaml", "--set", "greeting=ahoy")
    assert "VM of attempt 1 started" in printed
    assert "step greet done" in printed
    assert "| [step greet]" in printed
    assert "newest of family submitted" in printed.splitlines()[-1]

    [build] = [each for each in person.builds() if each.name == "submitted"]
    assert build.plan is not None
    assert build.plan.steps[0].inputs["env"] == {"GREETING": "ahoy"}
    assert build.plan.content_digest == planned["content_digest"]
    listed = person.goldsmith("builds", "list")
    assert f"{build.id}" in listed
    [shown] = [each for each in json.loads(person.goldsmith("builds", "list", "--json")) if each["id"] == build.id]
    assert shown["outcome"] == "succeeded"
    assert "greet" in person.goldsmith("builds", "show", "submitted")
    assert "[step greet]" in person.goldsmith("builds", "logs", "submitted")


def test_a_build_that_fails_is_1_with_the_steps_last_words_and_its_disk_is_kept_and_goes(
    cloud: Cloud, person: Person
) -> None:
    """Its author proves who that is, by gcloud."""
    folder = person.spec("kept", replace={"family: hello": "family: kept"})
    (folder / "preload.sh").write_text("#!/bin/sh\necho this goes wrong >&2\nexit 7\n")
    ann = person.logged_in(cloud.account_file(cloud.email("ann")))
    printed = ann.goldsmith("submit", folder / "build.yaml", "--keep-on-failure", "2h", "--author", status=1)
    assert "step greet failed" in printed
    assert "this goes wrong" in printed
    [build] = [each for each in person.builds() if each.name == "kept"]
    disk, vm = f"gs-{build.id}-a1-boot", f"look-{build.id}"
    assert build.state is State.HELD
    assert build.plan is not None
    assert build.plan.author == cloud.email("ann")
    assert f"author:     {cloud.email('ann')}" in person.goldsmith("builds", "show", build.id)
    assert build.disk_until <= build.updated + 3600, "the deployment's max_keep"
    assert (person.resources("instances"), person.resources("disks")) == ([], [disk])
    told = person.result("kept-")["kept_disk"]
    assert (told["name"], told["until"]) == (disk, build.disk_until)
    [create, _ssh, delete] = told["boot"]
    for command in told["boot"]:
        assert f"  {command}\n" in printed
        assert f"  {command}\n" in person.goldsmith("builds", "show", build.id)

    reader = Reader(person.folder, person.environment, {"look-BUILD": vm, "DISK": disk, "PROJECT": person.project})
    reader.stands_for.update({"ZONE": build.zone, "TYPE": create.partition("--machine-type=")[2].split()[0]})
    shown = [each.text for each in commands(Path("docs/deployment.md")) if "look-BUILD" in each.text]
    assert [reader.writes(text, {}) for text in shown] == told["boot"]
    reader.types(
        "gcloud compute instances create look-BUILD --project=PROJECT --zone=ZONE --machine-type=TYPE "
        "--disk=name=DISK,boot=yes,auto-delete=no --no-service-account --no-scopes --no-address"
    )
    assert (person.resources("instances"), person.resources("disks")) == ([vm], [disk])
    reader.types("gcloud compute instances delete look-BUILD --project=PROJECT --zone=ZONE")
    assert (person.resources("instances"), person.resources("disks")) == ([], [disk])
    said = person.goldsmith("builds", "cancel", build.id)
    assert "is failed" in said
    assert f"  {delete}\n" in said
    assert person.resources("disks") == []
    told = person.result("kept-")
    assert (told["outcome"], told["steps"][0]["exit_status"]) == ("failed", 7)
    assert (told["left"], told["kept_disk"]) == ([], None)


def test_a_build_that_is_refused_there_says_why(cloud: Cloud, person: Person) -> None:
    folder = person.spec("nowhere", replace={"family: debian-12": "family: debian-11"})
    eve = person.logged_in(cloud.account_file(cloud.email("eve")))
    account = "ann-approves@my-project.iam.gserviceaccount.com"
    names = {account: cloud.email("ann"), "my-project": person.project, "web.yaml": str(folder / "build.yaml")}
    Reader(person.folder, eve.environment, names).types(
        "goldsmith submit web.yaml --project my-project --impersonate ann-approves@my-project.iam.gserviceaccount.com",
        status=1,
        says="source.family: project local has no active image in family debian-11",
    )

    lines = person.goldsmith("submit", folder / "build.yaml", "--detach", "--json").splitlines()
    assert json.loads(lines[-1])["submitted"].startswith("nowhere-")


def test_who_can_no_longer_follow_is_told_that_the_build_goes_on(person: Person) -> None:
    folder = person.spec("unseen", replace={"family: debian-12": "family: debian-11"})
    place = f"00-{'a' * 32}-{'b' * 16}-01"
    environment = {"FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{free_port()}", "TRACEPARENT": place}
    blind = replace(person, environment={**person.environment, **environment})
    printed = blind.goldsmith("submit", folder / "build.yaml", status=1)
    build = person.finished("unseen")
    assert build.traceparent == place
    assert f"build {build.id} goes on; see it with: goldsmith builds show {build.id} --project" in printed
    assert "it can be tried again" in printed.splitlines()[-1]


def test_on_a_terminal_what_is_waited_for_is_drawn_and_ctrl_c_leaves_the_build_to_go_on(
    person: Person, cloud: Cloud
) -> None:
    folder = person.spec("left", replace={"family: debian-12": "family: debian-11"})
    command = [person.launcher, "submit", folder / "build.yaml", "--project", person.project, "--bucket", person.bucket]
    environment = {**person.environment, "HOME": str(person.folder)}
    with Terminal([str(word) for word in command], environment) as terminal:
        terminal.resize(24, 60)
        cloud.router.break_things(Faults(is_lost=True))  # it begins when its upload is announced again
        try:
            terminal.until("uploading ")
            terminal.until("waiting for build left-")
        finally:
            cloud.router.break_things(Faults())
        terminal.type("\x03")
        told = terminal.until("--project").split()
        assert "goes on; end it with: goldsmith builds cancel left-" in " ".join(told)
        assert terminal.finish() == 130
    assert "no active image in family debian-11" in person.finished("left").reason
