"""Several machines that verify one image, as a plan has them."""

from __future__ import annotations

import pytest

from shared.errors import InputError
from tests.shared.planning.test_plan import planned, spec_with

MACHINES = "verify: {boot_seconds: 60, machines: [{name: small, boot_seconds: 90, timeout: 5m}, {name: large, %s}]}"


def test_machines_that_verify_have_what_is_their_own_and_the_rest_of_the_build_vm() -> None:
    plan = planned(spec_with("local: {memory_mb: 2048}\n" + MACHINES % "cpus: 4, memory_mb: 512"))
    small, large = plan.verify_machines
    assert [(name, on.cpus, on.memory_mb) for name, on in plan.verifying_machines()] == [
        ("small", 2, 2048),
        ("large", 4, 512),
    ]
    checks = plan.verify_steps or ()
    assert [(step.inputs["boot_seconds"], step.timeout) for step in small.steps(checks)] == [(90, 300)]
    assert [(step.inputs["boot_seconds"], step.timeout) for step in large.steps(checks)] == [(60, 3600)]
    assert [plan.verifier_number(name) for name in ("", "small", "large")] == [0, 1, 2]
    with pytest.raises(ValueError, match="no verify machine 'huge'"):
        plan.verifier("huge")
    assert [name for name, _on in planned(spec_with("verify: {}")).verifying_machines()] == [""]
    assert list(planned(spec_with()).verifying_machines()) == []


def test_machines_that_verify_count_for_the_content() -> None:
    digests = [planned(spec_with(MACHINES % each)).content_digest for each in ("cpus: 4", "cpus: 8")]
    digests.append(planned(spec_with("verify: {boot_seconds: 60}")).content_digest)
    assert len(set(digests)) == 3


def test_a_machine_type_of_another_processor_cannot_verify() -> None:
    spec = spec_with("build: {project: my-project}\n" + MACHINES % "machine_type: c4a-standard-1")
    with pytest.raises(InputError, match=r"verify\.machines\[1\]\.machine_type: c4a-standard-1 has arm64 processors"):
        planned(spec)


@pytest.mark.parametrize(
    ("text", "gigabytes"),
    [
        ("verify: {}", 3),
        ("verify: {boot: firmware}", 4),
        ("local: {boot: firmware}\nverify: {}", 4),
        ("local: {boot: firmware}\nverify: {boot: direct}", 3),
        ("build: {project: my-project}\nverify: {}", 4),
        ("build: {project: my-project}\noutput: {disk_size_gb: 60}\nverify: {}", 70),
        ("build: {project: my-project}\nverify: {skip: [growth]}", 3),
        ("build: {project: my-project}\nverify: {skip: [disk]}", 3),
    ],
)
def test_its_disk_is_larger_than_the_image_where_the_image_has_to_grow_by_itself(text: str, gigabytes: int) -> None:
    plan = planned(spec_with(text))
    assert [on.disk_size_gb for _name, on in plan.verifying_machines()] == [gigabytes]
    grown = gigabytes - plan.image.disk_size_gb
    assert not grown or 8 * grown > gigabytes, "or the check would take it for tables of the file system"
