"""Batches: gcloud asks several projects for their images in one request, as multipart/mixed."""

from __future__ import annotations

import uuid
from email.message import Message
from email.parser import BytesParser

from flask import Flask, Response, request

from .refusals import Refusal

PATH = "/batch/compute/v1"
MOST = 1000  # requests in one, as Google has it


def add_batch(application: Flask, base: str) -> None:
    """Serve batches of requests whose paths are below `base`, by the application's other routes."""

    def run() -> Response:
        head = f"Content-Type: {request.headers.get('Content-Type', '')}\r\n\r\n"
        whole = BytesParser().parsebytes(head.encode("latin-1", "replace") + request.get_data())
        parts = whole.get_payload()
        if not isinstance(parts, list) or len(parts) > MOST:
            raise Refusal(400, "badRequest", f"A batch is multipart/mixed, of at most {MOST} requests.")
        boundary = f"batch_{uuid.uuid4().hex}"
        answers = [_answer(application, base, part) for part in parts if isinstance(part, Message)]
        body = b"".join(f"--{boundary}\r\n".encode() + answer for answer in answers) + f"--{boundary}--\r\n".encode()
        return Response(body, content_type=f"multipart/mixed; boundary={boundary}")

    application.add_url_rule(PATH, "batch", run, methods=["POST"])


def _answer(application: Flask, base: str, part: Message) -> bytes:
    """Do one request, given as `METHOD TARGET HTTP/1.1`, headers, a blank line and a body."""
    payload = part.get_payload(decode=True)
    line, _, rest = (payload if isinstance(payload, bytes) else b"").partition(b"\n")
    method, _, target = line.decode("latin-1").strip().removesuffix(" HTTP/1.1").partition(" ")
    if not target.startswith(base):
        raise Refusal(400, "badRequest", f"A part of the batch does not ask for a path below {base}.")
    inner = BytesParser().parsebytes(rest)
    body = inner.get_payload(decode=True)
    authorization = inner.get("Authorization") or request.headers.get("Authorization")
    answer = application.test_client().open(
        target,
        method=method,
        data=body if isinstance(body, bytes) else b"",
        headers={"Authorization": str(authorization)} if authorization else {},
        content_type="application/json",
    )
    content_id = str(part.get("Content-ID", "<request>")).replace("<", "<response-", 1)
    head = f"Content-Type: application/http\r\nContent-ID: {content_id}\r\n\r\nHTTP/1.1 {answer.status}\r\n"
    data: bytes = answer.data
    return f"{head}Content-Type: {answer.content_type}\r\n\r\n".encode() + data + b"\r\n"
