"""Find what `versions/latest` of a secret means now, so that a plan has numbers, and nothing that moves.

Each attempt of a build gets the same value then, and a new version is a change to `rebuild: changed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import InputError
from ..names import LATEST_VERSION, SECRET_OF_MANAGER

if TYPE_CHECKING:
    from ..ports import SecretVersions
    from ..spec.model import Spec, SpecStep


def with_numbers(spec: Spec, versions: SecretVersions) -> Spec:
    """Return a spec whose secrets are versions by number. InputError names step and variable; Transient."""
    steps = [*spec.steps, *(spec.verify.steps if spec.verify is not None else ())]
    if not any(_is_latest(place) for step in steps for place in step.secrets.values()):
        return spec
    known: dict[str, str] = {}  # each secret is looked up once, so that all steps get the same version
    numbered = tuple(_numbered(step, versions, known) for step in steps)
    changed = spec.model_copy(update={"steps": numbered[: len(spec.steps)]})
    if spec.verify is None:
        return changed
    verify = spec.verify.model_copy(update={"steps": numbered[len(spec.steps) :]})
    return changed.model_copy(update={"verify": verify})


def _numbered(step: SpecStep, versions: SecretVersions, known: dict[str, str]) -> SpecStep:
    places: Mapping[str, str] = step.secrets
    found = {}
    for name, place in places.items():
        if _is_latest(place) and place not in known:
            secret = place.removesuffix(LATEST_VERSION)
            try:
                known[place] = f"{secret}/versions/{versions.newest(secret)}"
            except InputError as error:
                raise InputError(f"steps: {step.name}: secrets.{name}: {error}") from error
        found[name] = known.get(place, place)
    return step.model_copy(update={"secrets": found})


def _is_latest(place: str) -> bool:
    """Return whether a place is a newest version in Secret Manager; a file may be called so, too, with any path."""
    return place.startswith(SECRET_OF_MANAGER) and place.endswith(LATEST_VERSION)
