"""goldsmith schema: the JSON schema of the spec, for editors. docs/generate_schema.py writes the file."""

from __future__ import annotations

from pathlib import Path

import shared.spec

from ..screen.text import say

SCHEMA_FILE = Path(shared.spec.__file__).with_name("spec.schema.json")


def print_schema() -> None:
    """Print it."""
    say(SCHEMA_FILE.read_text(encoding="utf-8").rstrip())
