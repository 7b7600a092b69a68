"""The record of a machine, while several threads write it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from shared.machines.record import RECORD, Record


def test_a_record_is_whole_while_two_threads_write_it(tmp_path: Path) -> None:
    """The thread that follows a machine and the one that stops it may record its end at the same moment."""
    record = Record.of(os.getpid())
    record.write(tmp_path)
    ends = [replace(record, how="lost", detail=letter * 2000) for letter in "ab"]

    def write(end: Record) -> None:
        for _ in range(200):
            end.write(tmp_path)

    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(write, end) for end in ends]
        while not all(writer.done() for writer in writers):
            assert Record.read(tmp_path) in (record, *ends)
        for writer in writers:
            writer.result()
    assert list(tmp_path.iterdir()) == [tmp_path / RECORD]
