"""Two VMs verify one image side by side."""

from __future__ import annotations

import pytest

from tests.cloud.person import Person

pytestmark = [pytest.mark.vm, pytest.mark.soak]


def test_two_machines_verify_an_image(person: Person) -> None:
    machines = "verify:\n  machines:\n    - {name: small, machine_type: e2-small}\n    - {name: large, timeout: 50m}\n"
    folder = person.spec("checked", replace={"family: hello": "family: checked"})
    with (folder / "build.yaml").open("a") as spec:
        spec.write(machines)
    person.upload(folder)
    told = person.result("checked/build-")
    assert (told["outcome"], told["reason"], told["left"]) == ("succeeded", "", [])
    checks = [step for step in told["steps"] if step["name"] == "built-in checks"]
    assert [(step["machine"], step["status"]) for step in checks] == [("small", "done"), ("large", "done")]
    build = person.finished("checked")
    identities = [set(each.identity) for each in build.verifiers]
    assert all(identities)
    assert not identities[0] & identities[1]
    assert build.identity, "the build VM has told of its own"
    logs = person.run("gsutil", "ls", f"{told['logs']}/**")
    for number in (1, 2):
        assert f"-verify{number}.log" in logs
    assert person.gcloud("compute", "instances", "list") == []
