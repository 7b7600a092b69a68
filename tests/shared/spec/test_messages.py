"""Every bad spec of golden/bad_specs.txt gets exactly the problems that are written below it."""

from pathlib import Path

import pytest

from provisioner.protocol import ACTIONS
from shared.errors import SpecError
from tests.shared.spec.reading import read_spec


def cases(path: Path) -> list[tuple[str, str, list[str]]]:
    """Read cases: `=== title`, the lines of a spec, `>>> ` and a problem for each that it must get.

    `(every action)` in a problem stands for the list of them.
    """
    found = []
    text = path.read_text().replace("(every action)", ", ".join(ACTIONS))
    for case in text.split("=== ")[1:]:
        title, _, rest = case.rstrip("\n").partition("\n")
        spec, *problems = rest.split("\n>>> ")
        found.append((title, spec + "\n", problems))
    return found


CASES = cases(Path(__file__).parents[1] / "golden/bad_specs.txt")


@pytest.mark.parametrize(("title", "text", "problems"), CASES, ids=[title for title, _, _ in CASES])
def test_bad_spec_gets_its_message(title: str, text: str, problems: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        read_spec(text, "spec.yaml")
    assert [problem.removeprefix("spec.yaml:") for problem in caught.value.problems] == problems, title
