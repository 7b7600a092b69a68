"""Records a build of this machine's store: python -m tests.replay.record HOME BUILD_ID OUT."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from shared.build.build import Build
from shared.engine.history import each_event
from shared.local.database import Database
from shared.local.store import LocalStore
from shared.ports import Store
from tests.replay.recording import decisions, record


def write(store: Store, build_id: str, out: Path, what: str = "") -> None:
    """Write the recording of a build. NotFound; ValueError when it does not end as the build did."""
    build, events = store.load(build_id).build, list(each_event(store, build_id))
    *_, last = decisions(events)
    if ending(last.build) != ending(build):
        raise ValueError(f"replayed, build {build_id} ends otherwise: {ending(last.build)}, and was: {ending(build)}")
    text = what or f"{build.name}: {build.outcome}{': ' + build.reason if build.reason else ''}"
    document = record(events, text)
    out.write_text(json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def ending(build: Build) -> tuple[object, ...]:
    """What a replay must reach; `last_seen` alone is not in the events, since heartbeats are none."""
    return build.state, build.outcome, build.attempt, build.ledger, build.steps, build.verify_steps, build.image


def main(arguments: list[str]) -> None:
    """Record the build that the command line names."""
    if len(arguments) != 3:
        raise SystemExit("usage: python -m tests.replay.record HOME BUILD_ID OUT")
    home, build_id, out = arguments
    path = Path(home) / "state.db"
    if not path.exists():
        raise SystemExit(f"{path} does not exist; HOME is what $GOLDSMITH_HOME was in that build")
    with Database(path) as database:
        write(LocalStore(database), build_id, Path(out))


if __name__ == "__main__":
    main(sys.argv[1:])
