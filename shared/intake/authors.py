"""Who has written what a build is made of: one person, or that is not known.

    goldsmith submit ── token, for this very spec and what comes with it ── upload ── verified, claimed ──► its mail
    specs/people/ann/web.yaml ── nobody else can write there ────────────────────────────────────────────► Ann's

A person is an author of all of it, or of nothing: a context that others can change makes the author unknown. A token
counts for one upload. What start_build has seen of it is written down under the token's digest, where it alone can
write, so that the same upload, delivered again, needs it no more, and another upload with it is refused.
"""

from __future__ import annotations

import json
import logging
import posixpath
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..backend import Backend
from ..build.image.approval import proof_of
from ..build.image.people import is_person, owner_of, person_of
from ..context.outside import context_name, outside
from ..errors import AlreadyExists, InputError
from ..ports import Objects
from ..spec.model import Spec
from ..submission import AUTHOR_METADATA, key_uri, named_digest, packed_context, split_uri, submission_purpose
from .request import Request
from .uploads import beside_spec

LOG = logging.getLogger(__name__)

_USED = "the author's token was used for another upload; get another one, and submit the spec again"


class Authors:
    """The authors of what is uploaded to one deployment."""

    def __init__(self, backend: Backend, objects: Objects, bucket: str) -> None:
        self._backend = backend
        self._objects = objects
        self._bucket = bucket

    def named(self, request: Request, text: str) -> Request:
        """Return a request with its author, as far as its text is concerned. InputError for a bad token; Transient."""
        if request.author is not None:
            return request
        token = _token(request)
        return replace(request, author=self._owner(request) if token is None else self._proved(token, request, text))

    def of(self, spec: Spec, request: Request) -> str:
        """Return the author of one of its builds; "" where others can change what that is made of.

        InputError where a token was to prove it.
        """
        author = request.author or ""
        changeable = self._changeable(spec, request, author) if author else ""
        if changeable and _token(request) is not None:
            raise InputError(
                f"context: {changeable} can be changed by others, so the token proves no author of it; upload the "
                "folder with goldsmith submit, or submit without a token"
            )
        if changeable:
            LOG.info("%s has no known author: %s can be changed by others", request.uri, changeable)
        return "" if changeable else author

    def _owner(self, request: Request) -> str:
        """Return whose folder a spec lies in, if all else that is asked for is that person's too."""
        as_uploaded = request.found is not None or not request.parameters
        if not request.uri or request.inline is not None or not as_uploaded:
            return ""
        bucket, name = split_uri(request.uri)
        found = owner_of(name, self._backend.people()) if bucket == self._bucket else None
        return "" if found is None else found[1]

    def _proved(self, token: str, request: Request, text: str) -> str:
        """Return the address that a token proves, once for each token."""
        place = key_uri(self._bucket, f"author {proof_of(token)}")
        if (known := self._claimed(place)) is not None:
            asked, author = known
            if asked != request.asked:
                raise InputError(_USED)
            return author
        if self._backend.identities is None:
            raise InputError("nothing here can check the author's token; submit without it")
        purpose = submission_purpose(request.uri, text, _metadata(request))
        try:
            author = self._backend.identities.mail_of(token, purpose)
        except InputError as error:
            raise InputError(f"who has written this is not proved: {error}") from None
        if not is_person(author, self._backend.people()):
            raise InputError(
                f"{author} is the address of no person of this deployment; ask for it in its people, or submit "
                "without a token"
            )
        self._claim(place, request.asked, author)
        return author

    def _claim(self, place: str, asked: str, author: str) -> None:
        with tempfile.NamedTemporaryFile(prefix="goldsmith-author-") as file:
            Path(file.name).write_text(json.dumps([asked, author]))
            try:
                self._objects.write_once(place, Path(file.name))
            except AlreadyExists as error:
                raise InputError(_USED) from error

    def _claimed(self, place: str) -> tuple[str, str] | None:
        """Return what a token was used for, and the address that it has proved."""
        found = self._objects.stat(place)
        if found is None:
            return None
        with tempfile.NamedTemporaryFile(prefix="goldsmith-author-") as file:
            self._objects.download(found, Path(file.name))
            asked, author = json.loads(Path(file.name).read_text())
        return str(asked), str(author)

    def _changeable(self, spec: Spec, request: Request, author: str) -> str:
        """Return what of a build's files others than its author can change; "" for nothing."""
        if spec.context is None:
            return ""
        others = outside(spec.steps)
        archive = spec.context if spec.context.startswith("gs:") else ""
        if request.packed is not None:
            archive = packed_context(request.packed, context_name(spec.context, others))
        if archive:
            bucket, name = split_uri(archive)
            return "" if bucket == self._bucket and named_digest(name, ".tar") else archive
        bucket, spec_name = split_uri(request.uri)
        people = self._backend.people()
        found = owner_of(spec_name, people) if bucket == self._bucket else None
        folder = "" if found is None or person_of(found[1], people) != person_of(author, people) else found[0]
        places = [spec.context, *(posixpath.join(spec.context, path) for path in others)]
        names = [beside_spec(request.uri, place, self._bucket)[1] for place in places]
        return next((f"gs://{bucket}/{name}" for name in names if not folder or not f"{name}/".startswith(folder)), "")


def _token(request: Request) -> str | None:
    return _metadata(request).get(AUTHOR_METADATA)


def _metadata(request: Request) -> Mapping[str, str]:
    return {} if request.found is None else request.found.metadata
