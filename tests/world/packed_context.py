"""Packed contexts as `goldsmith submit` uploads them: the archive, and the digest that its name has."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from shared.context.packing import pack_context


def packed_context(files: Mapping[str, str]) -> tuple[bytes, str]:
    """Pack files; return the archive and its digest."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        for name, text in files.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_text(text)
        made = pack_context(source, Path(folder) / "packed.tar")
        return Path(made.uri).read_bytes(), made.digest
