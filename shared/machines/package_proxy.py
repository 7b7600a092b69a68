"""A guest's proxy for its packages: files of mirrors by http, from the cache of this machine where that has them.

A .deb, and a file that is named for its digest, never change: once there, they come from the cache, and the mirror is
not asked. Lists and their signatures do: the mirror is asked whether the cache has the newest. All else is passed on.
What a guest sends beside the URL does not reach the mirror, and what it gets does not depend on other guests: the
mirror is asked for the same bytes each time. A file that is asked for with a password, or with a secret of the guest's
steps in its URL, is passed on, and not kept.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import IO

from ..cache.packages import CachedFile, PackageCache, PackageRecord
from ..errors import EnvironmentFault
from .upstream import BadTarget, MirrorAnswer, MirrorUrl, OwnHost, Upstream, UpstreamFault, mirror_url

LOG = logging.getLogger(__name__)

LARGEST_BODY = 8 << 30  # bytes
LONGEST_ANSWER = 3600.0  # seconds
CHUNK = 1 << 18
_FIXED = re.compile(r"/[^?]*(?:\.u?deb|\.ddeb|/by-hash/SHA256/(?P<sha256>[0-9a-f]{64}))")
_LISTS = ("InRelease", "Release", "Packages", "Sources")  # files of these names, and with further endings
_PASSED_ON = ("Content-Type", "Last-Modified", "ETag", "Location")
_NO_CONTENT = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


@dataclass(frozen=True)
class ProxyAnswer:
    """An answer to a guest. `pieces` is read to its end or closed; UpstreamFault where the body breaks off."""

    status: int
    reason: str
    headers: Mapping[str, str]
    length: int | None  # of the body; None: not known before its end
    pieces: Iterator[bytes]


@dataclass
class ProxyCount:
    """The files that a guest has got."""

    cached: int = 0
    cached_bytes: int = 0
    fetched: int = 0
    fetched_bytes: int = 0

    def __str__(self) -> str:
        """Return it for people."""
        cached, fetched = self.cached_bytes / 1e6, self.fetched_bytes / 1e6
        return f"{self.cached} files, {cached:.1f} MB, from the cache; {self.fetched} files, {fetched:.1f} MB, fetched"


@dataclass
class PackageProxy:
    """The proxy of one machine. `cache` is None where this machine cannot keep files: then all is passed on."""

    cache: PackageCache | None
    upstream: Upstream
    hidden: Sequence[bytes] = field(default=(), repr=False)  # no URL that has one of these is written to the cache
    count: ProxyCount = field(default_factory=ProxyCount)
    _asked: set[str] = field(default_factory=set)  # URLs of fixed files that this machine has had from the cache
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, method: str, target: str, headers: Mapping[str, str]) -> ProxyAnswer:
        """Answer a request. Names of headers are in lower case."""
        if method != "GET":
            return _refusal(HTTPStatus.METHOD_NOT_ALLOWED, "only GET is done here")
        try:
            url = mirror_url(target)
        except BadTarget as error:
            return _refusal(HTTPStatus.BAD_REQUEST, str(error))
        try:
            return self._answer(url, headers)
        except OwnHost as error:
            return _refusal(HTTPStatus.FORBIDDEN, str(error))
        except UpstreamFault as error:
            return _refusal(HTTPStatus.BAD_GATEWAY, str(error))

    def _answer(self, url: MirrorUrl, headers: Mapping[str, str]) -> ProxyAnswer:
        fixed, listed = _FIXED.fullmatch(url.path), _is_list(url.path)
        secret = {"Authorization": headers["authorization"]} if "authorization" in headers else {}
        told = secret or any(text in str(url).encode("utf-8", "surrogateescape") for text in self.hidden)
        if self.cache is None or told or not (fixed or listed):
            return self._passed(url, self.upstream.get(url, secret))
        found = self.cache.find(str(url))
        try:
            if found and fixed and not self._was_asked(str(url)):
                return self._from_cache(found, headers)
            answer = self.upstream.get(url, _conditions(found.record) if found else {})
        except BaseException:
            if found:
                found.file.close()
            raise
        if found and answer.status == HTTPStatus.NOT_MODIFIED:
            answer.close()
            return self._from_cache(found, headers)
        if found:
            found.file.close()
        return self._passed(url, answer, kept=answer.status == HTTPStatus.OK, sha256=fixed["sha256"] if fixed else None)

    def _was_asked(self, url: str) -> bool:
        """Return whether this machine has had a file before: then it was not what the machine had expected."""
        with self._lock:
            before = url in self._asked
            self._asked.add(url)
            return before

    def _from_cache(self, found: CachedFile, headers: Mapping[str, str]) -> ProxyAnswer:
        record = found.record
        given = {"Content-Type": record.content_type, "Last-Modified": record.last_modified, "ETag": record.etag}
        given = {name: value for name, value in given.items() if value}
        with self._lock:
            self.count.cached += 1
            self.count.cached_bytes += record.bytes
        if record.last_modified and headers.get("if-modified-since") == record.last_modified:
            found.file.close()
            return ProxyAnswer(HTTPStatus.NOT_MODIFIED, "Not Modified", given, 0, iter(()))
        return ProxyAnswer(HTTPStatus.OK, "OK", given, record.bytes, _read(found.file, record.bytes))

    def _passed(
        self, url: MirrorUrl, answer: MirrorAnswer, *, kept: bool = False, sha256: str | None = None
    ) -> ProxyAnswer:
        headers = {name: answer.header(name) for name in _PASSED_ON if answer.header(name)}
        length = 0 if answer.status in _NO_CONTENT else answer.length
        pieces = self._fetched(url, answer, length, kept=kept and answer.is_framed, sha256=sha256)
        return ProxyAnswer(answer.status, " ".join(answer.reason.split())[:100], headers, length, pieces)

    def _fetched(
        self, url: MirrorUrl, answer: MirrorAnswer, length: int | None, *, kept: bool, sha256: str | None
    ) -> Iterator[bytes]:
        """Yield the body while it comes, and keep it when it is whole. UpstreamFault."""
        until = time.monotonic() + LONGEST_ANSWER
        writer = self.cache.add(length) if kept and self.cache is not None else None
        done = 0
        try:
            with closing(answer):
                while data := answer.read():
                    done += len(data)
                    if done > LARGEST_BODY or time.monotonic() > until:
                        raise UpstreamFault("the answer is too long")
                    if writer is not None:
                        writer.write(data)
                    yield data
                if length not in (None, done):
                    raise UpstreamFault(f"the connection broke off after {done} of {length} bytes")
            if writer is not None:
                writer.keep(
                    str(url),
                    etag=answer.header("ETag")[:500],
                    last_modified=answer.header("Last-Modified")[:100],
                    content_type=answer.header("Content-Type")[:100],
                    sha256=sha256,
                )
        finally:
            if writer is not None:
                writer.close()
            with self._lock:
                self.count.fetched += 1
                self.count.fetched_bytes += done


def open_package_proxy(
    home: Path, site_proxy: Mapping[str, str], stack: ExitStack, hidden: Sequence[bytes] = ()
) -> PackageProxy:
    """Make the proxy of a machine, which ends with the stack. Where nothing can be kept, all is passed on."""
    upstream = Upstream(site_proxy)
    stack.callback(upstream.close)
    try:
        cache = stack.enter_context(PackageCache(home))
    except EnvironmentFault as error:
        LOG.warning("packages are not kept for later builds: %s", error)
        cache = None
    proxy = PackageProxy(cache, upstream, hidden)
    stack.callback(lambda: LOG.info("packages: %s", proxy.count))
    return proxy


def _is_list(path: str) -> bool:
    name = path.rpartition("/")[2]
    return "?" not in path and ("/dists/" in path or name.partition(".")[0] in _LISTS)


def _conditions(record: PackageRecord) -> Mapping[str, str]:
    """Return the headers that ask whether a file is still the newest; {} where the mirror has told no version."""
    asked = {"If-None-Match": record.etag, "If-Modified-Since": record.last_modified}
    return {name: value for name, value in asked.items() if value}


def _read(file: IO[bytes], length: int) -> Iterator[bytes]:
    with file:
        while length and (data := file.read(min(CHUNK, length))):
            length -= len(data)
            yield data
    if length:
        raise UpstreamFault("the file was cut short meanwhile")


def _refusal(status: HTTPStatus, why: str) -> ProxyAnswer:
    """Return an answer that apt shows to people: it prints the reason of a status, and not the body."""
    body = f"{why}\n".encode()
    return ProxyAnswer(status, why, {"Content-Type": "text/plain"}, len(body), iter((body,)))
