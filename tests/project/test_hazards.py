"""Every hazard that code or tests name by its number is in the legend of docs/reliability.md."""

import re
from pathlib import Path

import pytest

from tests.project.documents import lines
from tests.project.source_tree import ROOT, modules

LEGEND = Path("docs/reliability.md")
ENTRY = re.compile(r"\| ([0-9]+) \| ")
NAMED = re.compile(r"hazard[ _]([0-9]+)", re.IGNORECASE)


def unknown_hazards(root: Path) -> list[str]:
    """Find numbers of hazards that the legend does not explain."""
    known = {match[1] for line in lines(root / LEGEND, root) if (match := ENTRY.match(line.text))}
    return [
        f"{module.path}:{number}: hazard {named} is not in {LEGEND}"
        for module in modules(root)
        for number, text in enumerate(module.text.splitlines(), 1)
        for named in NAMED.findall(text)
        if named not in known
    ]


def test_named_hazards_are_explained() -> None:
    found = unknown_hazards(ROOT)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("text", ["def test_hazard_3_x(): ...", '"""It is hazard 3."""', "# Hazard 3, see there."])
def test_unknown_hazard_is_found(tmp_path: Path, text: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / LEGEND).write_text("| # | hazard |\n| --- | --- |\n| 1 | Fire. |\n| 30 | Water. |\n")
    (tmp_path / "some.py").write_text(f"x = 'hazard_1'\n{text}\n")
    assert unknown_hazards(tmp_path) == ["some.py:2: hazard 3 is not in docs/reliability.md"]
