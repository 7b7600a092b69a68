"""Rules of Container-Optimized OS that a spec keeps; what breaks them stands in golden/bad_specs.txt."""

import pytest

from shared.spec.model import Output, Source, Spec, SpecStep
from shared.spec.rules import cos_rules

GPU = {"action": "install-gpu", "inputs": {"version": "450.51.06"}}
SEAL = {"action": "seal-oem"}
QUIET = {"action": "disable-auto-update"}


def test_each_architecture_may_have_its_driver() -> None:
    """install-gpu: at most one in a build, and steps for different architectures are not in one build."""
    only = [{**GPU, "when": {"arch": arch}} for arch in ("x86_64", "arm64", "arm64")]
    assert list(cos_rules({"steps": tuple(only[:2])})) == []
    assert [loc for loc, _ in cos_rules({"steps": tuple(only)})] == [("steps", 2, "action")]
    assert [loc for loc, _ in cos_rules({"steps": (GPU, only[1])})] == [("steps", 1, "action")]


@pytest.mark.parametrize(
    ("steps", "output"),
    [
        ((), {"oem_size": "1G", "disk_size_gb": 11}),
        ((QUIET,), {"oem_size": "2046M"}),
        ((SEAL,), {"oem_size": "1023M"}),
        ((SEAL,), {"disk_size_gb": 10}),
        ((SEAL, QUIET), {}),
        ((QUIET, QUIET), {}),
    ],
)
def test_what_fits_is_taken(steps: tuple[object, ...], output: dict[str, object]) -> None:
    assert list(cos_rules({"steps": steps, "output": output})) == []


@pytest.mark.parametrize("odd", [None, 5, "x", (), ("x", 5, None), {"a": "b"}, {"oem_size": {}, "disk_size_gb": "x"}])
def test_any_value_in_any_place_is_borne(odd: object) -> None:
    """Other checks tell what is wrong with them."""
    for key in ("steps", "verify", "output"):
        assert list(cos_rules({key: odd})) == []


def test_spec_that_is_made_in_python_is_held_to_them() -> None:
    step = SpecStep(name="seal", action="seal-oem")
    source = Source(project="cos-cloud", family="cos-stable")
    output = Output.model_validate({"oem_size": "1G", "disk_size_gb": 11})
    assert Spec(name="a", source=source, steps=(step,), output=output).output.oem_size == 1 << 30
    with pytest.raises(ValueError, match="11 GB cannot hold an oem_size"):
        Spec(name="a", source=source, steps=(), output=Output.model_validate({"oem_size": "1025M", "disk_size_gb": 11}))
