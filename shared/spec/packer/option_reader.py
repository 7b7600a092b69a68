"""The options of one builder or provisioner: each is asked for by its kind of value, and the rest is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...names import nearest, quoted
from ..cloudbuild.native_draft import Draft, Origin
from ..document import Position
from .language.scope import Confidential, Varying
from .language.syntax import TemplateError
from .options import OptionPlacement
from .parts import PackerPart, PartSetting, shown_kind

_WORDS = {"true": True, "false": False}


class OptionReader:
    """Reads a component's options into a draft, and notes what is not taken over."""

    def __init__(self, component: PackerPart, table: Mapping[str, OptionPlacement], draft: Draft) -> None:
        self.component = component
        self.table = table
        self.draft = draft
        self.notes: list[tuple[Position, str]] = []
        self.asked: set[str] = set()
        self.unknown: set[str] = set()  # what could not be worked out

    def place(self, name: str) -> Origin:
        """Return the place of an option, or of the component."""
        setting = self.component.settings.get(name)
        return setting.place if setting else self.component.place

    def fault(self, name: str, text: str) -> None:
        """Note what is wrong with an option; nothing more where it could not be worked out."""
        if name not in self.unknown:
            self.draft.fault((), text, self.place(name))

    def note(self, name: str, text: str) -> None:
        """Note what becomes of an option, beside what the table says."""
        place = self.place(name)
        self.notes.append((place.position, f"{place.shown}: {text}"))

    def setting(self, name: str) -> PartSetting | None:
        """Return an option as it is, with its marks."""
        if self.table[name].verdict != "taken":
            raise KeyError(f"{name} of {self.component.kind} is not taken over, says the table")
        self.asked.add(name)
        setting = self.component.settings.get(name)
        if setting is None or name in self.unknown:
            return None
        try:
            setting.value  # noqa: B018 - worked out now
        except TemplateError as error:
            self.draft.document.problems.append(error.problem(name))
            self.unknown.add(name)
            return None
        return setting

    def value(self, name: str) -> Any:
        """Return an option's value; None where there is none, or none that a spec can have."""
        setting, faults = self.setting(name), len(self.draft.document.problems)
        found = None if setting is None else self.plain(name, setting.value)
        if len(self.draft.document.problems) > faults:
            self.unknown.add(name)
            return None
        return found

    def plain(self, name: str, value: Any) -> Any:
        """Return a value without marks; what cannot be had without them is a problem."""
        if isinstance(value, Varying):
            self.fault(name, "is another text each time, and a spec says the same each time; write a fixed one")
            return None
        if isinstance(value, Confidential):
            what = "of a step's environment_vars can have it, and nothing else in a spec"
            remedy = f"where it is no secret, take `sensitive` away from {value.variable}"
            self.fault(name, f"is sensitive: variables {what}" + ("" if value.place else f"; {remedy}"))
            return None
        if isinstance(value, list):
            return [self.plain(name, item) for item in value]
        return {key: self.plain(name, item) for key, item in value.items()} if isinstance(value, dict) else value

    def text(self, name: str) -> str | None:
        """Return an option that is a text."""
        value = self.value(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return str(value)
        if value is not None and not isinstance(value, str):
            self.fault(name, f"needs a text, not {shown_kind(value)}; write one")
            return None
        return value or None

    def number(self, name: str) -> int | None:
        """Return an option that is a whole number."""
        value = self.value(name)
        if isinstance(value, str) and value.isdecimal():
            value = int(value[:18])
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            self.fault(name, f"needs a whole number, not {shown_kind(value)}; write one")
            return None
        return value

    def flag(self, name: str) -> bool:
        """Return an option that is true or false; false where it is not there."""
        value = self.value(name)
        value = _WORDS.get(value, value) if isinstance(value, str) else value
        if value is not None and not isinstance(value, bool):
            self.fault(name, f"needs true or false, not {shown_kind(value)}; write one of them")
            return False
        return bool(value)

    def texts(self, name: str) -> list[str]:
        """Return an option that is a list of texts; a single one counts as such."""
        value = self.value(name)
        items = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(item, (str, int, float)) for item in items):
            self.fault(name, "needs a list of texts; write one")
            return []
        return [str(item) for item in items]

    def mapping(self, name: str) -> dict[str, Any]:
        """Return an option that is keys and values, or a block."""
        value = self.value(name)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if value is not None and not isinstance(value, dict):
            self.fault(name, f"needs keys and values, not {shown_kind(value)}; write those")
            return {}
        return value or {}

    def finish(self) -> None:
        """Tell what becomes of the options that nothing has asked for."""
        for name, setting in self.component.settings.items():
            if name in self.asked:
                continue
            placement = self.table.get(name)
            if placement is None:
                self.fault(name, f"is no option of {quoted(self.component.kind)}; {nearest(name, self.table)}")
            elif placement.verdict == "refused":
                if setting.is_something:
                    self.fault(name, f"cannot be kept: {placement.text}")
            else:
                why = placement.text if placement.verdict == "left" else "it has no effect here"
                self.note(name, f"not taken over: {why}")
