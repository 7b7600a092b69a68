"""Make folders of elements for tests, and find those of diskimage-builder, which setup/original-elements.sh unpacks."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

PACKAGE = Path(sys.prefix) / "share" / "diskimage-builder-3.43.0"
ORIGINAL = PACKAGE / "diskimage_builder" / "elements"

Files = Mapping[str, str]


def element(folder: Path, name: str, files: Files | None = None, *, needs: str = "", provides: str = "") -> Path:
    """Make an element: its files by path; those in folders that end with .d are executable unless they end with `-`.

    `needs` and `provides` are names with spaces between them.
    """
    made = folder / name
    made.mkdir(parents=True)
    if needs:
        (made / "element-deps").write_text("\n".join(needs.split()) + "\n")
    if provides:
        (made / "element-provides").write_text("\n".join(provides.split()) + "\n")
    for place, text in (files or {}).items():
        path = made / place.removesuffix("-")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if path.parent.name.endswith(".d") and not place.endswith("-") else 0o644)
    return made
