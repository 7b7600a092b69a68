"""The tables of docs/events.md are those of the classes that read the messages."""

from __future__ import annotations

import re

from docs.generate_events import PAGE, text
from shared.topology import TOPICS


def test_the_tables_are_as_the_classes_have_them() -> None:
    assert PAGE.read_text(encoding="utf-8") == text(), "run: python -m docs.generate_events"


def test_each_table_has_rows() -> None:
    for row in (
        "| a build | `spec`",
        "| `revoke` |",
        "| `outcome` |",
        "| `sequence` |",
        "| `step-failed` |",
        "| `Ticked` |",
    ):
        assert row in text(), row


def test_the_page_has_all_topics() -> None:
    assert sorted(
        re.findall(r"^\| `([a-z-]+)` \| .* \| .* \|$", text().partition("## Requests")[0], re.MULTILINE)
    ) == sorted(TOPICS)
