"""What is done for people where nothing but the backend is needed: images and their promotions, and triggers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..backend import Backend
from ..errors import InputError, Transient
from ..ownership import find_image
from ..person_requests import PersonRequest, PersonRequestKind
from ..planning.triggers import resume_paused
from ..published.approval import PersonsWord, answer_promotion, ask_promotion
from ..published.image_requests import shown_result
from ..published.revocation import RevokedImage, revoke_image
from .take import Act
from .targets import image_of_target, paused_trigger

_TRIES = 20  # of a conditional write


def resume_triggers(asked: PersonRequest, backend: Backend) -> str:
    """Let the triggers of a spec ask for builds again. InputError, Transient."""
    for _ in range(_TRIES):
        known = paused_trigger(asked.target, backend)
        if backend.store.save_trigger(resume_paused(known), known):
            return f"the triggers of {asked.target} ask for builds again"
    raise Transient(f"the triggers of {asked.target} were written by others all the time")


def image_acts(
    with_users: Callable[[RevokedImage], RevokedImage],
    rebuild: Callable[[RevokedImage, Backend], RevokedImage] | None = None,
) -> Mapping[PersonRequestKind, Act]:
    """Return what is done for requests about images; `with_users` tells what uses a revoked one.

    `rebuild` asks for what was built from it; None where a command does that.
    """

    def revoke(asked: PersonRequest, backend: Backend) -> str:
        project, name = _same_image(asked, backend)
        if asked.cascade and rebuild is None:
            raise InputError("what was built from an image is built again here by: goldsmith images revoke --cascade")
        done = revoke_image(project, name, f"{asked.reason} ({asked.by})", backend, alone=asked.alone)
        if asked.cascade and rebuild is not None:
            done = rebuild(done, backend)
        return shown_result(with_users(done))

    return {"revoke": revoke, "promote": _promote, "approve": _approve, "refuse": _refuse}


def _same_image(asked: PersonRequest, backend: Backend) -> tuple[str, str]:
    """Return project and name of an image that is still the one that was seen. InputError."""
    project, name = image_of_target(asked.target)
    known = find_image(project, name, backend)
    if known is None or known.id != asked.seen.partition(" ")[0]:
        raise InputError(f"image {asked.target} is another one than was shown")
    return project, name


def _promote(asked: PersonRequest, backend: Backend) -> str:
    project, name = _same_image(asked, backend)
    return shown_result(
        ask_promotion(project, name, asked.channel, backend, request=f"person {asked.id}", account=asked.by)
    )


def _approve(asked: PersonRequest, backend: Backend) -> str:
    project, name = image_of_target(asked.target)
    return shown_result(answer_promotion(project, name, asked.channel, "approve", _word(asked), backend))


def _refuse(asked: PersonRequest, backend: Backend) -> str:
    project, name = image_of_target(asked.target)
    return shown_result(answer_promotion(project, name, asked.channel, "refuse", _word(asked), backend))


def _word(asked: PersonRequest) -> PersonsWord:
    number = asked.seen.partition(" ")[0]
    return PersonsWord(
        asked.reason, account=asked.by, request=asked.id, number=int(number) if number.isdecimal() else 0
    )
