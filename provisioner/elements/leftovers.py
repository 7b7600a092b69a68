"""What a step of elements leaves behind for its own work, and its removal, however the step has ended.

Before the step, a record says what was there: the step may be cut off by the power, and run again. Afterwards
everything goes that was made for the build: hooks, files of /tmp, the builder's programs in /usr/local/bin and their
data. etc/resolv.conf becomes what the elements want the image to have: that is etc/resolv.conf.ORIG, which they may
change; the file itself, in use meanwhile, is the build's.

Nothing is removed through links, and no mount is entered.
"""

from __future__ import annotations

import json
import os
import stat

from ..system.files import read_text, write_whole
from ..system.tree import Tree
from .tools import BUILD_TOOLS
from .variables import WORK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Mapping, Optional

LEFTOVERS_RECORD = "elements.json"
RESOLV_CONF, WANTED = "etc/resolv.conf", "etc/resolv.conf.ORIG"
KEPT, LENT = "etc/resolv.conf.goldsmith", "/run/goldsmith/"  # the image's own file while another one is lent
RECORD_LIMIT = 64 << 20  # bytes: a step before may have left many files in /tmp
_LENT_FILE = "run/goldsmith/resolv.conf"
_TOOLS = "usr/local/bin"
_DATA = ("usr/share/pkg-map", "usr/share/svc-map")
_TEMPORARY = "tmp"


class Leftovers:
    """What one step makes in an image below `root` for its own work; its record is in the folder of the job's state."""

    def __init__(self, root: str, state: str) -> None:
        self._root = root
        self._state = state
        self._path = os.path.join(state, LEFTOVERS_RECORD)
        self._record: Optional[Mapping[str, Any]] = None  # what begin() wrote: scripts can change the file

    def begin(self) -> None:
        """Remove what an interrupted try has left, and record what there is. OSError."""
        if os.path.lexists(self._path):
            self.remove()
        record = self._record = {
            "temporary": self._names(_TEMPORARY),
            "tools": self._names(_TOOLS),
            "data": [path for path in _DATA if os.path.lexists(self._at(path))],
            "resolv": self._offer_names(),
        }
        write_whole(self._path, json.dumps(record).encode("utf-8", "surrogateescape"))

    def remove(self) -> List[str]:
        """Remove what has been made since; return what could not be done, for people to read."""
        record = self._record or self._read()
        image, state = Tree(self._root), Tree(self._state)
        state.remove(WORK, LEFTOVERS_RECORD)
        if record is None:  # nothing has begun, or what was there before is not known
            return state.problems
        for name in set(self._names(_TEMPORARY)) - set(record["temporary"]):
            image.remove_name(_TEMPORARY, name)
        for name in sorted(set(BUILD_TOOLS) - set(record["tools"])):
            image.remove_name(_TOOLS, name)
        image.remove(*(path for path in _DATA if path not in record["data"]))
        problems = [*image.problems, *state.problems]
        if record["resolv"] is not None:
            try:
                self._take_names(record["resolv"])
            except OSError as error:
                problems.append(f"{RESOLV_CONF}: {error.strerror}")
        return problems

    def _read(self) -> Optional[Mapping[str, Any]]:
        """Return the record of a try that was cut off; None for none, or for what begin() does not write."""
        try:
            record = json.loads(read_text(self._path, RECORD_LIMIT))
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(record, dict) or not all(
            _is_names(record.get(key)) for key in ("temporary", "tools", "data")
        ):
            return None
        resolv = record.get("resolv", {})
        if resolv is None:
            return record
        right = isinstance(resolv, dict) and all(_is_entry(resolv.get(key, {})) for key in ("offered", "used"))
        return record if right else None

    def _at(self, path: str) -> str:
        return os.path.join(self._root, path)

    def _names(self, folder: str) -> List[str]:
        try:
            return os.listdir(self._at(folder))
        except OSError:
            return []

    def _offer_names(self) -> Optional[Mapping[str, Any]]:
        """Put the image's own resolv.conf where elements expect it; return what was done, None for nothing."""
        wanted = self._at(WANTED)
        if os.path.lexists(wanted):  # the image's own
            return None
        own = _entry(self._at(KEPT)) or _entry(self._at(RESOLV_CONF))
        if own is not None and own.get("link", "").startswith(LENT):
            own = None
        _put(wanted, own)
        return {"offered": own, "used": _entry(self._at(RESOLV_CONF))}

    def _take_names(self, before: Mapping[str, Any]) -> None:
        """Make the resolv.conf of the image the one that elements want it to have. OSError."""
        path, kept = self._at(RESOLV_CONF), self._at(KEPT)
        wanted, used = _entry(self._at(WANTED)), _entry(path)
        _put(self._at(WANTED), None)
        was_link = "link" in (before["used"] or {})
        if used is not None and "link" in used and not was_link:
            return  # a package has made it a link: that is the image's now
        if used != before["used"]:
            _put(path, before["used"])
        if wanted == before["offered"]:
            return
        lent = _entry(self._at(_LENT_FILE))
        if lent is None or not self._is_lent(before["used"] or {}):
            _put(path, wanted)
        elif wanted is not None and "text" in wanted:
            _put(kept, wanted)
            _put(path, lent)
        else:
            _put(kept, None)
            _put(path, wanted or {"link": "/" + _LENT_FILE})

    def _is_lent(self, used: Mapping[str, Any]) -> bool:
        """Return whether a resolv.conf is the build's, which goes at the build's end."""
        return os.path.lexists(self._at(KEPT)) or str(used.get("link", "")).startswith(LENT)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_entry(value: Any) -> bool:
    """Return whether a value is what _entry() returns."""
    if value is None or (isinstance(value, dict) and list(value) == ["link"] and isinstance(value["link"], str)):
        return True
    kinds = {"text": str, "mode": int, "time": int}
    return isinstance(value, dict) and all(isinstance(value.get(key), kind) for key, kind in kinds.items())


def _entry(path: str) -> Optional[Dict[str, Any]]:
    """Return a small file or a link as a document; None where there is neither."""
    try:
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode):
            return {"link": os.readlink(path)}
        if not stat.S_ISREG(found.st_mode):
            return None
        return {"text": read_text(path), "mode": stat.S_IMODE(found.st_mode), "time": found.st_mtime_ns}
    except OSError:
        return None


def _put(path: str, entry: Optional[Mapping[str, Any]]) -> None:
    """Make a file or a link what a document says; None removes it. OSError."""
    if entry is not None and "text" in entry:
        write_whole(path, entry["text"].encode("utf-8", "surrogateescape"), entry["mode"])
        os.chmod(path, entry["mode"])
        os.utime(path, ns=(entry["time"], entry["time"]))
        return
    if os.path.lexists(path):
        os.unlink(path)
    if entry is not None:
        os.symlink(entry["link"], path)
