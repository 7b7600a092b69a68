"""Limits of inputs that only Linux has, told before a machine is paid for."""

from __future__ import annotations

import os
import subprocess

import pytest

from shared.errors import SpecError
from tests.shared.spec.reading import read_spec

LONGEST = 131_072 - len("BIG=") - 1


def spec(*variables: tuple[str, str]) -> str:
    env = "".join(f"        {name}: {value}\n" for name, value in variables)
    head = f"name: a\nsource: {{project: local, family: f}}\ncontext: .\nparameters: {{long: {'x' * 105_000}}}\n"
    return f"{head}steps:\n  - name: one\n    action: run-script\n    inputs:\n      script: a.sh\n      env:\n{env}"


def test_the_longest_variable_is_what_the_kernel_takes() -> None:
    assert read_spec(spec(("BIG", "x" * LONGEST)), "spec.yaml").steps[0].inputs["env"] == {"BIG": "x" * LONGEST}
    subprocess.run(["/bin/true"], env={**os.environ, "BIG": "x" * LONGEST}, check=True)
    with pytest.raises(OSError, match="Argument list too long"):
        subprocess.run(["/bin/true"], env={**os.environ, "BIG": "x" * (LONGEST + 1)}, check=True)


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        (
            [("BIG", "x" * (LONGEST + 1))],
            "spec.yaml:10:7: steps[0].inputs.env: BIG has 131073 bytes, and Linux gives no program a variable of more "
            "than 131072; write it into a file of the context",
        ),
        (
            [(f"V{number}", "${long}") for number in range(10)],
            "spec.yaml:10:7: steps[0].inputs.env: has 1050040 bytes in all, and a program takes 1048576; write large",
        ),
    ],
)
def test_what_the_kernel_would_not_take_is_refused(variables: list[tuple[str, str]], problem: str) -> None:
    with pytest.raises(SpecError) as raised:
        read_spec(spec(*variables), "spec.yaml")
    assert [text[: len(problem)] for text in raised.value.problems] == [problem]
