"""The lines of one script of an element, found in the console of a build: from where it begins to where it ends."""

from __future__ import annotations

_MARK = b"] elements: "  # behind `[step NAME`
_LONGEST_LINE = 65536  # bytes of an unfinished line


class ScriptLines:
    """Picks the lines of a script out of what is read, piece by piece."""

    def __init__(self, name: str) -> None:
        """Take the script's PHASE/FILE, or its file, in whichever phase."""
        self._name = name.encode("utf-8", "replace")
        self._inside = False
        self._part = b""
        self.found = False

    def pick(self, data: bytes, *, last: bool = False) -> bytes:
        """Return what of the next piece is the script's; `last` says that no other piece follows."""
        *lines, self._part = (self._part + data).split(b"\n")
        if last and self._part:
            lines, self._part = [*lines, self._part], b""
        self._part = self._part[-_LONGEST_LINE:]
        return b"".join(line + b"\n" for line in lines if self._is_of_script(line))

    def _is_of_script(self, line: bytes) -> bool:
        name, _, rest = line.rpartition(_MARK)[2].partition(b" (")
        if _MARK not in line or self._name not in (name, name.rpartition(b"/")[2]):
            return self._inside
        element, ended, _ = rest.rstrip(b"\r").partition(b"): ")
        was_inside, self._inside = self._inside, element.endswith(b")") and not ended
        self.found = self.found or self._inside
        return self._inside or was_inside
