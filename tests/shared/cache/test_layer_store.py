"""The layers on the disk of one machine: which of them a build begins after."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from shared.cache.layer_store import CONTENT, LayerRecord, LayerStore, StepLayer, look_along, open_chain

CHAIN = tuple(StepLayer(step, f"step{step}", f"{step}" * 64, step > 1) for step in (0, 2, 3))


def opened(store: LayerStore, chain: Sequence[StepLayer], max_age: float) -> int:
    found = open_chain(store, chain, max_age)
    for each in found:
        each.close()
    return len(found)


def chain_of(place: Path, store: LayerStore) -> None:
    """Keep the layers of CHAIN, one on another."""
    below = ""
    for layer, oldest in zip(CHAIN, (None, 5.0, 5.0), strict=True):
        staged = place / layer.key
        staged.mkdir()
        (staged / CONTENT).write_text(layer.name)
        made = store.publish(staged, LayerRecord(layer.key, "", layer.name, "b", "vm", 5.0, oldest, below))
        assert made is not None
        below = made.digest


def test_a_layer_is_of_use_only_on_the_one_that_it_was_made_on(tmp_path: Path) -> None:
    store = LayerStore(tmp_path / "layers", shutil.rmtree)
    store.folder.mkdir()
    chain_of(tmp_path, store)
    store.discard(CHAIN[1].key)
    staged = tmp_path / "again"
    staged.mkdir()
    (staged / CONTENT).write_text("step2 of another day")
    [first] = [record for record in store.records() if record.key == CHAIN[0].key]
    assert store.publish(staged, LayerRecord(CHAIN[1].key, "", "step2", "b", "vm", 5.0, 5.0, first.digest))
    assert opened(store, CHAIN, 1e12) == 2
    assert sorted(record.step for record in store.records()) == ["step0", "step2"]


def test_layers_above_one_that_is_gone_go_with_it(tmp_path: Path) -> None:
    store = LayerStore(tmp_path / "layers", shutil.rmtree)
    store.folder.mkdir()
    chain_of(tmp_path, store)
    store.discard(CHAIN[0].key)
    assert opened(store, CHAIN, 1e12) == 0
    assert list(store.records()) == []


def test_layers_that_are_too_old_make_room_for_newer_ones(tmp_path: Path) -> None:
    store = LayerStore(tmp_path / "layers", shutil.rmtree)
    store.folder.mkdir()
    chain_of(tmp_path, store)
    assert opened(store, CHAIN, 1e12) == 3
    assert opened(store, (CHAIN[0], replace(CHAIN[1], usable=False)), 60.0) == 1
    assert len(list(store.records())) == 3  # a build was told to run a step, and the next one is not
    held = store.open(CHAIN[2].key)
    assert held is not None
    assert opened(store, CHAIN, 60.0) == 1
    assert [record.step for record in store.records()] == ["step0", "step3"]  # a build uses the last one
    held.close()


def test_the_owner_of_a_layer_that_is_a_file_does_not_count(tmp_path: Path) -> None:
    """In the namespace of an ordinary user, in which layers are verified, the same user has another number."""
    store = LayerStore(tmp_path / "layers", shutil.rmtree)
    store.folder.mkdir()
    staged = tmp_path / "staged"
    staged.mkdir()
    (staged / CONTENT).write_text("blocks")
    made = store.publish(staged, LayerRecord(CHAIN[0].key, "", "step0", "b", "vm", 5.0, None))
    assert made is not None
    shutil.chown(store.folder / made.key / CONTENT, 12345, 12345)
    assert store.verify() == []


def test_a_look_finds_what_a_build_would_open_and_leaves_all_as_it_is(tmp_path: Path) -> None:
    store = LayerStore(tmp_path / "layers", shutil.rmtree)
    store.folder.mkdir()
    chain_of(tmp_path, store)
    before = {record.key: record.used for record in store.records()}
    young = replace(CHAIN[0], usable=False)
    assert [len(look_along(store, CHAIN, 1e12)[0]), look_along(store, CHAIN, 1e12)[1]] == [3, None]
    assert [len(look_along(store, CHAIN, 1.0)[0]), look_along(store, CHAIN, 1.0)[1]] == [1, "old"]
    assert look_along(store, (young, *CHAIN[1:]), 1e12) == ([], None)
    assert look_along(store, CHAIN[1:], 1e12) == ([], "elsewhere")
    content = store.folder / CHAIN[1].key / CONTENT
    content.write_text("damaged")
    assert [len(look_along(store, CHAIN, 1e12)[0]), look_along(store, CHAIN, 1e12)[1]] == [1, "missing"]
    assert {record.key: record.used for record in store.records()} == before
    assert opened(store, CHAIN, 1e12) == 1


def test_what_pruning_would_remove_is_known_before(tmp_path: Path) -> None:
    store = LayerStore(tmp_path / "layers", shutil.rmtree)
    store.folder.mkdir()
    chain_of(tmp_path, store)
    in_use = store.open(CHAIN[1].key)
    assert in_use is not None
    expected = [record.key for record in store.surplus(0)]
    assert sorted(expected) == [CHAIN[0].key, CHAIN[2].key]
    assert [record.key for record in store.prune(0)] == expected
    in_use.close()
