"""The forms of what is written once and kept: decision records and the changelog."""

import re
from pathlib import Path

import pytest

from tests.project.documents import headings
from tests.project.source_tree import ROOT

RECORD = re.compile(r"(\d{4})-[a-z0-9]+(?:-[a-z0-9]+)*\.md")
PARTS = ["Status", "Context", "Decision", "Consequences"]
DATE = re.compile(r"^Date: 20\d\d-[01]\d-[0-3]\d$", re.MULTILINE)
STATUS = re.compile(r"^## Status\n+(?:Accepted|Proposed|Rejected|Superseded by \[\d{4}\]\(\S+\))\b", re.MULTILINE)

RELEASE = re.compile(r"\[(\d+)\.(\d+)\.(\d+)\] - (20\d\d-[01]\d-[0-3]\d)")
CHANGES = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}

DEPENDENCIES = Path("docs/decisions/0003-dependencies.md")


def misshapen_records(root: Path) -> list[str]:
    """Find decision records that have no number of their own, are not dated, or not in the four parts.

    Numbers rise and may leave gaps: several people take theirs before any of them is done.
    """
    found: list[str] = []
    last = 0
    for path in sorted((root / "docs" / "decisions").iterdir()):
        name = RECORD.fullmatch(path.name)
        if not name or int(name[1]) <= last:
            found.append(f"{path.relative_to(root)}: the next record is {last + 1:04}-title-in-lower-case.md")
            continue
        last = int(name[1])
        found += [f"{path.relative_to(root)}: {fault}" for fault in _faults(path, last, root)]
    return found


def _faults(path: Path, number: int, root: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    faults = []
    if not text.startswith(f"# {number}. "):
        faults.append(f"begins with `# {number}. Title`")
    if not DATE.search(text):
        faults.append("needs a line `Date: YYYY-MM-DD`")
    parts = [heading.text for heading in headings(path, 2, root)]
    if [part for part in parts if part in PARTS] != PARTS:
        faults.append(f"needs the headings {', '.join(PARTS)}, in this order; it has {', '.join(parts) or 'none'}")
    elif not STATUS.search(text):
        faults.append("needs a status: Accepted, Proposed, Rejected or Superseded by [NNNN](FILE)")
    return faults


def misshapen_changelog(root: Path) -> list[str]:
    """Find what in CHANGELOG.md is not as keepachangelog.com has it."""
    path = root / "CHANGELOG.md"
    if [title.text for title in headings(path, 1, root)] != ["Changelog"]:
        return ["CHANGELOG.md:1: begins with `# Changelog`"]
    found: list[str] = []
    releases = headings(path, 2, root)
    if [release.text for release in releases[:1]] != ["[Unreleased]"]:
        found.append("CHANGELOG.md: the first part is `## [Unreleased]`")
    versions = []
    for release in releases[1:]:
        if match := RELEASE.fullmatch(release.text):
            versions.append((*map(int, match.groups()[:3]), match[4]))
        else:
            found.append(release.at(f"`{release.text}` is not `[X.Y.Z] - YYYY-MM-DD`"))
    if versions != sorted(versions, reverse=True):
        found.append("CHANGELOG.md: the newest release comes first")
    return found + [
        change.at(f"`{change.text}` is none of {', '.join(sorted(CHANGES))}")
        for change in headings(path, 3, root)
        if change.text not in CHANGES
    ]


def unexplained_packages(root: Path) -> list[str]:
    """Find packages in the requirements that have no heading of their own in the record on dependencies."""
    explained = {heading.text.lower() for level in (2, 3) for heading in headings(root / DEPENDENCIES, level, root)}
    return [
        f"{name}: {package} has no heading in {DEPENDENCIES} that says why it is needed"
        for name in ("requirements.in", "requirements-dev.in")
        for package in re.findall(r"^([A-Za-z][\w.-]*)", (root / name).read_text(encoding="utf-8"), re.MULTILINE)
        if package.lower() not in explained
    ]


def test_decision_records_are_in_form() -> None:
    found = misshapen_records(ROOT)
    assert not found, "\n".join(found)


def test_changelog_is_in_form() -> None:
    found = misshapen_changelog(ROOT)
    assert not found, "\n".join(found)


def test_every_package_has_its_reason() -> None:
    found = unexplained_packages(ROOT)
    assert not found, "\n".join(found)


GOOD_RECORD = """# 1. Keep bees

Date: 2026-11-20

## Status

Accepted

## Context

Flowers.

## Decision

Bees.

## Consequences

Honey.
"""


def test_good_record_is_in_form(tmp_path: Path) -> None:
    assert _with_record(tmp_path, "0001-keep-bees.md", GOOD_RECORD) == []


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("0001_keep_bees.md", GOOD_RECORD, "the next record is 0001-"),
        ("0000-keep-bees.md", GOOD_RECORD, "the next record is 0001-"),
        ("0001-keep-bees.md", GOOD_RECORD.replace("# 1.", "# 2."), "begins with"),
        ("0001-keep-bees.md", GOOD_RECORD.replace("Date: 2026", "In 2026"), "Date: YYYY-MM-DD"),
        ("0001-keep-bees.md", GOOD_RECORD.replace("## Context", "Context"), "needs the headings"),
        ("0001-keep-bees.md", GOOD_RECORD.replace("Accepted", "Perhaps"), "needs a status"),
    ],
)
def test_misshapen_record_is_found(tmp_path: Path, name: str, text: str, fault: str) -> None:
    [found] = _with_record(tmp_path, name, text)
    assert fault in found


def test_number_that_is_taken_twice_is_found(tmp_path: Path) -> None:
    assert _with_record(tmp_path, "0001-keep-bees.md", GOOD_RECORD) == []
    (tmp_path / "docs" / "decisions" / "0001-sell-honey.md").write_text(GOOD_RECORD)
    [found] = misshapen_records(tmp_path)
    assert "0001-sell-honey.md: the next record is 0002-" in found


def _with_record(root: Path, name: str, text: str) -> list[str]:
    (root / "docs" / "decisions").mkdir(parents=True)
    (root / "docs" / "decisions" / name).write_text(text)
    return misshapen_records(root)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("# Changes\n", "begins with"),
        ("# Changelog\n\n## [1.0.0] - 2026-01-01\n", "[Unreleased]"),
        ("# Changelog\n\n## [Unreleased]\n\n## 1.0.0\n", "`1.0.0` is not"),
        ("# Changelog\n\n## [Unreleased]\n\n### News\n", "`News` is none of"),
        ("# Changelog\n\n## [Unreleased]\n## [1.0.0] - 2026-01-01\n## [1.1.0] - 2026-02-01\n", "newest"),
    ],
)
def test_misshapen_changelog_is_found(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "CHANGELOG.md").write_text(text)
    [found] = misshapen_changelog(tmp_path)
    assert fault in found


def test_unexplained_package_is_found(tmp_path: Path) -> None:
    (tmp_path / DEPENDENCIES).parent.mkdir(parents=True)
    (tmp_path / DEPENDENCIES).write_text("### typer\n\nrich is only named here.\n")
    (tmp_path / "requirements.in").write_text("# What runs.\nrich==1.0\n")
    (tmp_path / "requirements-dev.in").write_text("-r requirements.in\ntyper==1.0\n")
    [found] = unexplained_packages(tmp_path)
    assert found.startswith("requirements.in: rich has no heading")
