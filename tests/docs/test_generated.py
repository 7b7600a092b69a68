"""The tables of docs/events.md are those of the classes that read the messages."""

from __future__ import annotations

from docs.generate_events import PAGE, text


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
