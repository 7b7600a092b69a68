"""The module `yaml` for scripts of elements, where the image has none: the documents that the plan has read.

safe_load() knows the text of every YAML file of the chosen elements, JSON, and plain lines NAME: VALUE. dump() writes
JSON, which is YAML, or such lines. The module of the image is used instead, if it has one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Dict, Optional, Union

TEXTS = "texts.json"  # in the step's folder: documents by the SHA-256 of the file that holds them
_SYMBOLS = "#'\"[]{}:,&*!|>%@`- \t"  # with which a plain name does not begin
_PLAIN = re.compile(r"[A-Za-z/][-A-Za-z0-9_./@+]*")
_WORDS = ("true", "false", "yes", "no", "on", "off", "y", "n", "null")
_texts: Dict[str, Any] = {}


class YAMLError(Exception):
    """Text that this module cannot read."""


def replace_module(name: str, file: str, work: str) -> None:
    """Put the image's own module in the place of the one of this name, or else this one."""
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    own = os.path.dirname(os.path.abspath(file))
    found = PathFinder.find_spec(name, [path for path in sys.path if os.path.abspath(path or ".") != own])
    if found is not None and found.loader is not None:
        module = module_from_spec(found)
        sys.modules[name] = module
        found.loader.exec_module(module)
        return
    with open(os.path.join(work, TEXTS), encoding="utf-8") as texts:
        _texts.update(json.load(texts))
    own_module = sys.modules[name] = sys.modules[__name__]
    for other, function in (("load", safe_load), ("full_load", safe_load), ("safe_dump", dump)):
        setattr(own_module, other, function)


def safe_load(stream: Union[str, bytes, IO[Any]]) -> Any:
    """Return the document in a text or a file. YAMLError."""
    text = stream if isinstance(stream, (str, bytes)) else stream.read()
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    known = hashlib.sha256(data).hexdigest()
    if known in _texts:
        return _texts[known]
    plain = data.decode("utf-8", "surrogateescape")
    try:
        return json.loads(plain)
    except ValueError:
        return _lines(plain)


def _lines(text: str) -> Optional[Dict[str, str]]:
    found: Dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith(("#", "---")):
            continue
        name, colon, value = line.partition(":")
        if not colon or not name or name[0] in _SYMBOLS or (value and not value.startswith(" ")):
            raise YAMLError(f"{line!r:.80}: this image has no yaml module for Python; install python3-yaml before")
        value = value.strip()
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
        found[name] = value[1:-1] if quoted else value
    return found or None


def dump(data: Any, stream: Optional[IO[str]] = None, **_: object) -> Optional[str]:
    """Write a document to a file, or return its text."""
    flat = isinstance(data, dict) and data and all(_is_plain(each) for pair in data.items() for each in pair)
    text = "".join(f"{key}: {data[key]}\n" for key in sorted(data)) if flat else json.dumps(data, sort_keys=True) + "\n"
    if stream is None:
        return text
    stream.write(text)
    return None


def _is_plain(value: Any) -> bool:
    """Return whether a value is text that YAML takes for text without quotes."""
    return isinstance(value, str) and value.lower() not in _WORDS and _PLAIN.fullmatch(value) is not None
