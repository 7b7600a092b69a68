"""Every bad workflow of golden/bad_workflows.txt gets exactly the problems that are written below it.

The titles name the flag or rule of COS Customizer's command line that the workflow breaks.
"""

from pathlib import Path

import pytest

from shared.errors import SpecError
from tests.shared.spec.reading import read_text
from tests.shared.spec.test_messages import cases

CASES = cases(Path(__file__).parents[2] / "golden/bad_workflows.txt")


@pytest.mark.parametrize(("title", "text", "problems"), CASES, ids=[title for title, _, _ in CASES])
def test_bad_workflow_gets_its_message(title: str, text: str, problems: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        read_text(text, "cloudbuild.yaml")
    assert [problem.removeprefix("cloudbuild.yaml:") for problem in caught.value.problems] == problems, title
