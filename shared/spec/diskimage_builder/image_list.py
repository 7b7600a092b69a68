"""diskimage-builder's YAML lists of images: entries of options, later ones of an image inheriting from earlier ones.

An entry without `imagename` is of the image before it, at the beginning of `image`. What an entry of the same image
says again adds to lists, replaces other values, and joins the variables of `environment`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...names import quoted, shown_value, unknown_key
from ..cloudbuild.keys import merged
from ..cloudbuild.native_draft import Origin
from ..document import Document, KeyPath, key_path
from .options import OPTIONS, ImageOrder, LineOption, OrderText

DEFAULT_NAME = "image"
_ENVIRONMENT, _RAMDISK, _ELEMENTS = "environment", "ramdisk", "elements"
_KEYS = (*OPTIONS, _ENVIRONMENT, _RAMDISK, _ELEMENTS)


def is_image_list(data: Any) -> bool:
    """Return whether values are a list of images."""
    return isinstance(data, tuple) and bool(data) and all(isinstance(each, Mapping) for each in data)


def read_image_list(document: Document) -> list[ImageOrder]:
    """Return the images of a list, each with its problems; those of the text are with the first one."""
    whole = merged(document)
    orders: dict[str, ImageOrder] = {}
    name = DEFAULT_NAME
    for index, entry in enumerate(whole.data):
        reader = _Entry(whole, index)
        named = entry.get("imagename")
        name = named if isinstance(named, str) and named else name
        order = orders.setdefault(name, ImageOrder(reader.origin(())))
        reader.enter(entry, order)
    for name, order in orders.items():
        order.given.setdefault("imagename", [OrderText(name, order.place)])
    found = list(orders.values())
    found[0].problems += whole.problems
    return found


class _Entry:
    """One entry of a list, which goes into an order."""

    def __init__(self, document: Document, index: int) -> None:
        self._document = document
        self._index = index

    def origin(self, path: KeyPath) -> Origin:
        whole: KeyPath = (self._index, *path)
        return Origin(self._document.position(whole), key_path(whole))

    def enter(self, entry: Mapping[str, Any], order: ImageOrder) -> None:
        for key, value in entry.items():
            place = self.origin((key,))
            if key not in _KEYS:
                order.fault(unknown_key(key, _KEYS), place)
            elif value is None:
                order.fault("has no value; give it one, or leave the key out", place)
            elif key == _ENVIRONMENT:
                self._environment(value, order, place)
            elif key == _RAMDISK:
                order.is_ramdisk = self._switch(value, order, place)
            elif key == _ELEMENTS:
                order.elements += self._texts(value, order, key)
            else:
                self._option(OPTIONS[key], value, order, place)

    def _environment(self, value: Any, order: ImageOrder, place: Origin) -> None:
        if not isinstance(value, Mapping):
            order.fault(f"needs keys and values, not {shown_value(value)}; write variables such as A: text", place)
            return
        for name, text in value.items():
            where = self.origin((_ENVIRONMENT, name))
            if isinstance(text, str):
                order.environment[name] = OrderText(text, where)
            else:
                order.fault(f'needs text, not {shown_value(text)}; put it in quotes: "..."', where)

    def _option(self, option: LineOption, value: Any, order: ImageOrder, place: Origin) -> None:
        texts: list[OrderText] | None = None
        if option.kind == "switch":
            texts = [OrderText("", place)] if self._switch(value, order, place) else []
        elif option.kind == "count":
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 2:
                order.fault(f"cannot be {shown_value(value)}; write 0, 1 or 2", place)
                return
            texts = [OrderText("", place)] * value
        elif option.kind == "list":
            items = self._texts(value, order, option.key)
            order.given.setdefault(option.key, []).extend(items)
            return
        elif option.kind == "pairs":
            texts = self._pairs(value, order, place)
        elif option.kind == "number" and isinstance(value, (int, float)) and not isinstance(value, bool):
            texts = [OrderText(str(value), place)]
        elif isinstance(value, str) and option.kind == "text":
            texts = [OrderText(value, place)] if value else []
        if texts is None:
            needed = "a number" if option.kind == "number" else "text"
            order.fault(f"needs {needed}, not {shown_value(value)}; write that instead", place)
        else:
            order.given[option.key] = texts

    def _switch(self, value: Any, order: ImageOrder, place: Origin) -> bool:
        if not isinstance(value, bool):
            order.fault(f"needs true or false, not {shown_value(value)}; write that instead", place)
        return value is True

    def _pairs(self, value: Any, order: ImageOrder, place: Origin) -> list[OrderText] | None:
        if not isinstance(value, Mapping):
            return None
        wrong = [name for name, text in value.items() if not isinstance(text, str)]
        if wrong:
            order.fault(f'{quoted(wrong[0])} needs text; put it in quotes: "..."', place)
        return [OrderText(",".join(f"{name}={text}" for name, text in value.items()), place)] if value else []

    def _texts(self, value: Any, order: ImageOrder, key: str) -> list[OrderText]:
        if not isinstance(value, Sequence) or isinstance(value, str):
            order.fault(f"needs a list, not {shown_value(value)}; write entries that begin with -", self.origin((key,)))
            return []
        found = []
        for number, item in enumerate(value):
            place = self.origin((key, number))
            if isinstance(item, str):
                found.append(OrderText(item, place))
            else:
                order.fault(f'needs text, not {shown_value(item)}; put it in quotes: "..."', place)
        return found
