"""Where the dashboard takes what people ask for, and how it knows who they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flask import Request

from ...person_requests import PersonRequest


@dataclass(frozen=True)
class Desk:
    """Proves who a person is, and hands over requests. It changes nothing by itself."""

    who: Callable[[Mapping[str, str]], str]  # by the headers of a request: an address, or ""; InputError, Transient
    send: Callable[[PersonRequest], None]  # GoldsmithError where it cannot be handed over
    patience: float = 0.0  # seconds for which a browser waits for what comes of it
    rebuilds: bool = False  # whether what was built from a revoked image can be asked for again


def header_values(request: Request) -> Mapping[str, str]:
    """Return the headers of a request by their names in lower case; none of those that come twice."""
    return {name.lower(): value for name, value in request.headers if len(request.headers.getlist(name)) == 1}
