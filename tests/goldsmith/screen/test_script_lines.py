"""The lines of one script in a console."""

from __future__ import annotations

import pytest

from goldsmith.screen.script_lines import ScriptLines

CONSOLE = b"""goldsmith: the root file system now fills its 900 MiB
[step app] elements: pre-install.d/10-a (a)
[step app] first
[step app] elements: pre-install.d/10-a (a): 0.1 s
[step app] elements: install.d/10-a (a)
[step app] second
goldsmith: something of its own
[step app] last
[step app] elements: install.d/10-a (a): 12.5 s, exit status 3
[step app] elements: install.d: 12.6 s
[step app] elements:     12.500 10-a (a)
"""


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_script_is_picked(size: int) -> None:
    lines = ScriptLines("install.d/10-a")
    pieces = [CONSOLE[at : at + size] for at in range(0, len(CONSOLE), size)]
    text = b"".join(lines.pick(piece) for piece in pieces)
    assert text == b"\n".join(CONSOLE.split(b"\n")[4:9]) + b"\n"
    assert lines.found


def test_a_file_is_found_in_all_phases() -> None:
    picked = ScriptLines("10-a").pick(CONSOLE)
    assert b"first" in picked
    assert b"second" in picked
    assert b"its own" in picked
    assert b"900 MiB" not in picked


def test_the_end_of_a_console_without_a_newline_is_not_lost() -> None:
    lines = ScriptLines("install.d/10-a")
    assert lines.pick(b"[step app] elements: install.d/10-a (a)\r\nlast words", last=True).endswith(b"last words\n")


@pytest.mark.parametrize("name", ["10-b", "install.d/10", "install.d", ".*", "install.d/.*", ""])
def test_others_are_not_found(name: str) -> None:
    lines = ScriptLines(name)
    assert lines.pick(CONSOLE, last=True) == b""
    assert not lines.found
