"""What goes wrong on purpose: tests ask for it, and it happens in Google's words."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field

from .refusals import Failure, Refusal, forbidden


@dataclass
class _Answer:
    pattern: re.Pattern[str]
    status: int
    reason: str
    left: int

    def meets(self, request: str) -> bool:
        if self.left > 0 and self.pattern.search(request):
            self.left -= 1
            return True
        return False


@dataclass
class Faults:
    """The faults of one endpoint."""

    _exhausted: set[str] = field(default_factory=set)
    _quotas: list[str] = field(default_factory=list)
    _denied: set[str] = field(default_factory=set)
    _cut_off: bool = False
    _answers: list[_Answer] = field(default_factory=list)
    _lost: list[_Answer] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def exhaust(self, zone: str) -> None:
        """Let a zone have no room for more instances."""
        self._exhausted.add(zone)

    def quota(self, name: str) -> None:
        """Let instances go beyond a quota, such as CPUS."""
        self._quotas.append(name)

    def deny(self, permission: str) -> None:
        """Refuse what needs a permission, such as compute.images.create."""
        self._denied.add(permission)

    def fail_next(self, pattern: str, status: int, times: int = 1, reason: str = "") -> None:
        """Answer requests with an error whose `METHOD /path` has the pattern in it, so many times."""
        with self._lock:
            self._answers.append(_Answer(re.compile(pattern), status, reason, times))

    def lose_answer(self, pattern: str, times: int = 1) -> None:
        """Do what such requests ask, and cut the connection instead of answering."""
        with self._lock:
            self._lost.append(_Answer(re.compile(pattern), 0, "", times))

    def cut_off(self) -> None:
        """Give instances that start from here on no route to Google's other services."""
        self._cut_off = True

    def clear(self) -> None:
        """Let everything go well again."""
        with self._lock:
            self._exhausted.clear()
            self._quotas.clear()
            self._denied.clear()
            self._answers.clear()
            self._lost.clear()
            self._cut_off = False

    @property
    def is_cut_off(self) -> bool:
        """Whether new instances have no route to Google's other services."""
        return self._cut_off

    def meet(self, request: str) -> None:
        """Refuse a request, `METHOD /path`, that is to fail. Raises Refusal."""
        with self._lock:
            found = next((answer for answer in self._answers if answer.meets(request)), None)
        if found is not None:
            raise Refusal.of_status(found.status, found.reason)

    def loses(self, request: str) -> bool:
        """Whether the answer to a request is to be lost."""
        with self._lock:
            return any(answer.meets(request) for answer in self._lost)

    def check_permission(self, permission: str, path: str) -> None:
        """Raises Refusal when it is denied."""
        if permission in self._denied:
            raise forbidden(permission, path)

    def check_room(self, zone_path: str) -> None:
        """Raises Failure when an instance cannot be started in a zone."""
        zone = zone_path.rsplit("/", 1)[-1]
        if zone in self._exhausted:
            raise Failure(
                "ZONE_RESOURCE_POOL_EXHAUSTED",
                f"The zone '{zone_path}' does not have enough resources available to fulfill the request.  "
                "Try a different zone, or try again later.",
                503,
            )
        if self._quotas:
            region = zone.rpartition("-")[0]
            message = f"Quota '{self._quotas[0]}' exceeded.  Limit: 0.0 in region {region}."
            raise Failure("QUOTA_EXCEEDED", message, 403)
