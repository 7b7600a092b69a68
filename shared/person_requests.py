"""What people ask for in the dashboard: one document of the store for each request, which says who, why and what came.

    preview ── the form, with an id and what was seen ── POST ── people-requests ── may the person? is it still so?
                                                                     refused, in words ◄── no ─┴─ yes ──► accepted
                                                                     failed, in words ◄── cannot be ──┴──► done

The id is the form's, so that a form that is sent twice, or delivered twice, asks once. It is accepted in a write of its
own, before anything is done: who takes it up after a death does not look again at what that has changed already.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from .build.damage import Damaged
from .errors import PoisonMessage
from .json_values import reader
from .named_documents import read_kept_document, write_kept_document

PersonRequestKind = Literal["cancel", "retry", "resume", "revoke", "promote", "approve", "refuse"]
LEADS_TO: Mapping[PersonRequestKind, str] = {
    "cancel": "builds",
    "retry": "retries",
    "resume": "builds",
    "revoke": "images",
    "promote": "images",
    "approve": "images",
    "refuse": "images",
}
"""By kind, the attribute `about` of a message: it leads to the function that can do it."""

LARGEST_ASKED = 16 << 10  # bytes of a message
LONGEST_TOLD = 4000  # characters of what came of it
REQUEST_ID = re.compile(r"[0-9a-f]{32}")
_SIZES = {"by": 320, "reason": 1000, "target": 1024, "channel": 16, "seen": 300}


@dataclass(frozen=True)
class PersonRequest:
    """One request of one person."""

    id: str  # 32 hexadecimal digits, of the form
    kind: PersonRequestKind
    target: str  # the id of a build, PROJECT/IMAGE, or the place of a spec
    by: str  # the mail address, which is proved; on one machine the account's name
    reason: str
    asked: float  # Unix seconds
    channel: str = ""
    seen: str = ""  # what the person has seen of the target
    state: Literal["asked", "accepted", "done", "failed", "refused"] = "asked"
    told: str = ""  # what has come of it, for people
    ended: float = 0.0  # Unix seconds; 0: it has not
    alone: bool = False  # of a revocation: its family may be left without a good image
    cascade: bool = False  # and what was built from the image is built again

    @property
    def has_ended(self) -> bool:
        """Return whether nothing more comes of it."""
        return self.state in ("done", "failed", "refused")

    def after(self, state: Literal["done", "failed", "refused"], told: str, now: float) -> PersonRequest:
        """Return it with what has come of it."""
        return replace(self, state=state, told=told[:LONGEST_TOLD], ended=now)


class PersonRequestStore(Protocol):
    """A part of the port Store: the requests that functions have taken."""

    def person_request(self, key: str) -> PersonRequest | None:
        """Read one by its id; None where there is none. DamagedDocument."""
        ...

    def person_requests(self, target: str) -> Sequence[PersonRequest | Damaged]:
        """List those about a target, the oldest first."""
        ...

    def save_person_request(self, asked: PersonRequest, expected: PersonRequest | None) -> bool:
        """Write one if it is still as expected, or absent for None; return whether it was. DamagedDocument."""
        ...


def write_person_request(asked: PersonRequest) -> str:
    """Return a request's JSON."""
    return write_kept_document(asked)


def read_person_request_of(key: str, document: Any) -> PersonRequest:
    """Read the request that is kept under an id from its JSON. StoreError, also for one that is another's."""
    return read_kept_document(PersonRequest, "request", key, document)


def read_asked(data: bytes) -> PersonRequest:
    """Read a message of people-requests. PoisonMessage."""
    try:
        found: PersonRequest = reader(PersonRequest)(json.loads(data) if len(data) <= LARGEST_ASKED else None)
    except (ValueError, RecursionError) as error:
        raise PoisonMessage(f"a person's request that cannot be read: {error}") from error
    long = next((name for name, size in _SIZES.items() if len(getattr(found, name)) > size), "")
    if long or not REQUEST_ID.fullmatch(found.id) or not found.by or not found.target:
        raise PoisonMessage(f"a person's request of another form: {long or 'id'}")
    return replace(found, state="asked", told="", ended=0.0)
