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
