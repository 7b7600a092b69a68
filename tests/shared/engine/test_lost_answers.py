"""A write that was done and whose answer was lost: the client writes again, and is told that all of it is there."""

from __future__ import annotations

from shared.build.build import Build, ImageDocument
from shared.build.events import Event
from shared.engine.engine import Engine
from shared.errors import AlreadyExists
from tests.world import values
from tests.world.memory_store import MemoryStore
from tests.world.world import World


class Forgetful(MemoryStore):
    """The documents of another store, which takes each event and answers that it was there."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__()
        self._documents = store._documents

    def save(
        self,
        build: Build,
        expected: str,
        event: Event | None = None,
        image: ImageDocument | None = None,
        replaces: str | None = None,
    ) -> str:
        version = super().save(build, expected, event, image, replaces)
        if event is not None:
            raise AlreadyExists(f"{event.event_id} is there")
        return version


def test_its_orders_are_sent_at_once() -> None:
    """Firestore's client commits again when a connection breaks. No tick has to come first."""
    made = World()
    made.engine.request(values.requested())
    made.bus.waiting.clear()
    engine = Engine(Forgetful(made.store), made.bus, made.clock)
    assert "recorded before" in engine.receive(values.cancel_requested())
    assert [message.attributes["order"] for message in made.bus.waiting] == ["clean_up"]
    assert made.build().outbox == ()
