"""What goes wrong on purpose: tests ask for it, and it happens in Google's words."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .refusals import Document, Failure, Refusal, forbidden


def _unshielded(instance: Document) -> str:
    """Return what an instance lacks of a Shielded VM; "" for nothing."""
    config = instance.get("shieldedInstanceConfig", {})
    lacks = [what for key, what in _SHIELDED.items() if not config.get(key)]
    return f"{lacks[0]} is not enabled in the 'shielded_instance_config' field." if lacks else ""


def _addressed(instance: Document) -> str:
    if not any(interface.get("accessConfigs") for interface in instance.get("networkInterfaces", [])):
        return ""
    return f"Add instance {instance['name']} to the constraint to use external IP with it."


_SHIELDED = {
    "enableSecureBoot": "Secure Boot",
    "enableVtpm": "vTPM",
    "enableIntegrityMonitoring": "Integrity Monitoring",
}
POLICIES: Mapping[str, Callable[[Document], str]] = {
    "compute.requireShieldedVm": _unshielded,
    "compute.vmExternalIpAccess": _addressed,
}
"""What each policy has against an instance."""


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
    _policies: set[str] = field(default_factory=set)
    _cut_off: bool = False
    _keys: set[str] = field(default_factory=set)
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

    def constrain(self, policy: str) -> None:
        """Put an organization policy into force: compute.requireShieldedVm or compute.vmExternalIpAccess."""
        assert policy in POLICIES, policy
        self._policies.add(policy)

    def provide_key(self, name: str) -> None:
        """Let there be a key of Cloud KMS, by its path, that Compute Engine may use."""
        self._keys.add(name)

    def fail_next(self, pattern: str, status: int, times: int = 1, reason: str = "") -> None:
        """Answer requests with an error whose `METHOD /path` has the pattern in it, so many times."""
        with self._lock:
            self._answers.append(_Answer(re.compile(pattern), status, reason, times))

    def lose_answer(self, pattern: str, times: int = 1) -> None:
        """Do what such requests ask, and cut the connection instead of answering."""
        with self._lock:
            self._lost.append(_Answer(re.compile(pattern), 0, "", times))

    def cut_off(self) -> None:
        """Cut instances that start from now on off from Google's other services."""
        self._cut_off = True

    def clear(self) -> None:
        """Let everything go well again."""
        with self._lock:
            self._exhausted.clear()
            self._quotas.clear()
            self._denied.clear()
            self._policies.clear()
            self._keys.clear()
            self._answers.clear()
            self._lost.clear()
            self._cut_off = False

    @property
    def is_cut_off(self) -> bool:
        """Return whether new instances have no route to Google's other services."""
        return self._cut_off

    def meet(self, request: str) -> None:
        """Refuse a request, `METHOD /path`, that is to fail. Raises Refusal."""
        with self._lock:
            found = next((answer for answer in self._answers if answer.meets(request)), None)
        if found is not None:
            raise Refusal.of_status(found.status, found.reason)

    def loses(self, request: str) -> bool:
        """Return whether the answer to a request is to be lost."""
        with self._lock:
            return any(answer.meets(request) for answer in self._lost)

    def check_permission(self, permission: str, path: str) -> None:
        """Raises Refusal when it is denied."""
        if permission in self._denied:
            raise forbidden(permission, path)

    def check_policies(self, instance: Document, project: str) -> None:
        """Raises Refusal for an instance that a policy forbids."""
        for policy in sorted(self._policies):
            if why := POLICIES[policy](instance):
                violated = f"Constraint constraints/{policy} violated for project {project}. {why}"
                raise Refusal(412, "conditionNotMet", violated)

    def check_key(self, key: Document) -> None:
        """Raises Refusal for the key of a resource that Cloud KMS does not have, or does not give to Compute Engine."""
        name = str(key.get("kmsKeyName", ""))
        if not name or name.partition("/cryptoKeyVersions/")[0] in self._keys:
            return
        raise Refusal(
            400,
            "invalid",
            f"Cloud KMS error when using key {name}: Permission 'cloudkms.cryptoKeyVersions.useToEncrypt' denied on "
            f"resource '{name}' (or it may not exist).",
        )

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
