"""Requests and answers are held to Google's own message classes, those of google-cloud-compute.

A field that Google's API does not know, or a value of another type, is refused in a request and is an error of ours in
an answer. The classes take a second or more to import, so a thread does that while the endpoint is already up.
"""

from __future__ import annotations

import json
import re
import threading
from concurrent.futures import Future
from typing import Any

from .refusals import Document, Refusal

_UNKNOWN = re.compile(r'has no field named "(?P<name>[^"]*)" at "(?P<at>[^"]*)"')


class AnswerError(Exception):
    """The endpoint was about to send what Google's API would not."""


class Contract:
    """Google's message classes by name, such as Instance. Imported once, on a thread of their own."""

    def __init__(self) -> None:
        self._messages: Future[Any] = Future()
        threading.Thread(target=self._import, daemon=True, name="compute-contract").start()

    def request(self, kind: str, body: bytes) -> Document:
        """Read a request's body as a message and give it in canonical JSON. Raises Refusal."""
        try:
            document = json.loads(body or b"{}")
        except (ValueError, RecursionError) as error:
            raise Refusal(400, "parseError", "Parse Error") from error
        if not isinstance(document, dict):
            raise Refusal(400, "parseError", "Invalid JSON payload received. Root element must be a message.")
        return self._parsed(kind, document)

    def answer(self, kind: str, document: Document) -> Document:
        """Return the document unchanged if it is one of Google's messages. Raises AnswerError."""
        try:
            self._parsed(kind, document)
        except Refusal as refusal:
            raise AnswerError(f"{kind}: {refusal.message}: {json.dumps(document)[:2000]}") from refusal
        return document

    def _parsed(self, kind: str, document: Document) -> Document:
        from google.protobuf import json_format  # type: ignore[import-untyped]  # the library has no types

        message_class = getattr(self._messages.result(), kind)
        message = message_class.pb(message_class())
        try:
            json_format.ParseDict(document, message)
        except json_format.ParseError as error:
            raise Refusal(400, "badRequest", _in_googles_words(str(error))) from error
        canonical: Document = json_format.MessageToDict(message)
        return canonical

    def _import(self) -> None:
        from google.cloud import compute_v1

        self._messages.set_result(compute_v1)


def _in_googles_words(error: str) -> str:
    found = _UNKNOWN.search(error)
    if found is None:
        return f"Invalid JSON payload received. {error.splitlines()[0]}"
    at = found["at"].partition(".")[2]
    place = f" at '{at}'" if at else ""
    return f'Invalid JSON payload received. Unknown name "{found["name"]}"{place}: Cannot find field.'
