"""The functions as they are deployed, over an honest world: the framework's own application, and what it is sent."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

import functions_framework
from flask import Flask
from werkzeug.test import Client, TestResponse

from functions.handling import INSTANCE
from shared.backend import Backend
from shared.gcp.settings import Settings
from shared.ports import Message
from shared.runtime.cloud import CloudBackend
from tests.world.counted import FakeBacklogs
from tests.world.uploaded import MemoryObjects
from tests.world.world import MASTER, World

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "my-project"
BUCKET = "goldsmith-test"
SETTINGS = Settings(
    project=PROJECT,
    bucket=BUCKET,
    zones=("us-central1-a",),
    master_key=MASTER,
    vm_service_account="vm@my-project.iam.gserviceaccount.com",
)


class Deployment:
    """One world behind all functions; `call` is a request to one of them."""

    def __init__(self, world: World | None = None) -> None:
        self.world = world or World()
        self.objects = MemoryObjects()
        parts = {each.name: getattr(self.world.backend, each.name) for each in fields(Backend)}
        self.backlogs = FakeBacklogs()
        self.backend = CloudBackend(
            **parts,
            settings=SETTINGS,
            objects=self.objects,
            image_users=self.world.compute,
            backlogs=self.backlogs,
        )

    @contextmanager
    def application(self, function: str) -> Iterator[Flask]:
        """Make the framework's application of a function, from its root main.py on."""
        create: Callable[[str, str], Flask] = functions_framework.create_app
        with INSTANCE.using(self.backend):
            yield create(function, str(ROOT / "main.py"))

    @contextmanager
    def client(self, function: str) -> Iterator[Client]:
        """Return what talks to a function."""
        with self.application(function) as application:
            yield application.test_client()

    def push(self, function: str, message: Message, message_id: str = "17") -> TestResponse:
        """Push a message as Pub/Sub does."""
        return self.push_raw(function, message.topic, push_body(message, message_id))

    def push_raw(self, function: str, topic: str, body: Mapping[str, Any]) -> TestResponse:
        with self.client(function) as client:
            return client.post(f"/projects/{PROJECT}/topics/{topic}", json=body)

    def push_stream(self, function: str, topic: str, body: IO[bytes]) -> TestResponse:
        """Push a body that is read while it comes."""
        with self.client(function) as client:
            return client.post(f"/projects/{PROJECT}/topics/{topic}", input_stream=body)

    def event(self, function: str, event_type: str, data: Any, source: str = "//x/y") -> TestResponse:
        """Send a CloudEvent in binary mode, as Eventarc does. Bytes are sent as they are."""
        headers = {"ce-id": "e1", "ce-specversion": "1.0", "ce-type": event_type, "ce-source": source}
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        with self.client(function) as client:
            return client.post("/", data=body, headers=headers, content_type="application/json")


def push_body(message: Message, message_id: str = "17") -> dict[str, Any]:
    """What Pub/Sub POSTs."""
    inner = {
        "data": base64.b64encode(message.data).decode(),
        "attributes": dict(message.attributes),
        "messageId": message_id,
        "publishTime": "2026-11-20T12:00:00Z",
        "orderingKey": message.ordering_key,
    }
    return {"message": inner, "subscription": f"projects/{PROJECT}/subscriptions/s", "deliveryAttempt": 1}
