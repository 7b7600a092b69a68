"""docs/goldsmith.1 is what the command line comes to."""

from __future__ import annotations

from tests.goldsmith.man_page import PAGE, manual_page


def test_manual_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == manual_page(), "run: python -m tests.goldsmith.man_page"


def test_each_command_has_its_section() -> None:
    text = manual_page()
    for section in (r".SS goldsmith build SPEC", r".SS goldsmith images revoke NAME", ".SH EXIT STATUS"):
        assert f"\n{section}\n" in text
    assert "\\fB130\\fR\nended with Ctrl\\-C; a build was cancelled and cleaned up\n" in text
