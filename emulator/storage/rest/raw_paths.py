"""Routes over paths as they were sent: in `/b/BUCKET/o/a%2Fb` the object's name is one segment, whatever is in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from werkzeug.exceptions import BadRequest
from werkzeug.routing import BaseConverter

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_AS_SENT = "".join(map(chr, range(0x21, 0x7F)))  # ASCII that stays what it is, the percent sign too


class RawPaths:
    """Hands an application the path still percent-encoded, where WSGI's servers decode it."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request, as any WSGI application."""
        environ["PATH_INFO"] = raw_path(environ)
        return self._application(environ, start_response)


def raw_path(environ: WSGIEnvironment) -> str:
    """Return a request's path as ASCII, percent-encoded as it was sent."""
    # The server encoded what it had read as ISO 8859-1 by UTF-8 and decoded that as ISO 8859-1 again: undo both.
    sent = environ["REQUEST_URI"].encode("latin-1").decode("utf-8").encode("latin-1", "replace")
    uri = quote(sent, safe=_AS_SENT)
    return uri.partition("?")[0] if uri.startswith("/") else urlsplit(uri).path or "/"


class Name(BaseConverter):
    """One segment of a path, decoded: a bucket's or an object's name."""

    def to_python(self, value: str) -> str:
        """Decode. BadRequest for what is not UTF-8."""
        try:
            return unquote(value, errors="strict")
        except UnicodeDecodeError as error:
            raise BadRequest("The path is not valid UTF-8.") from error


class Rest(Name):
    """All that is left of a path, decoded: an object's name in the XML API."""

    regex = ".+"
    part_isolating = False
