"""Formats by their names."""

from __future__ import annotations

import pytest

from shared.build.export_formats import EXPORT_FORMATS, checksum_line, chosen_formats
from shared.errors import InputError


def test_each_is_once_in_the_order_given() -> None:
    assert [known.name for known in chosen_formats(["vmdk", "gce", "vmdk"])] == ["vmdk", "gce"]


def test_an_unknown_one_is_refused_with_all_that_there_are() -> None:
    with pytest.raises(InputError, match=r"no format 'vdi'; choose of gce, raw, qcow2, .*oci"):
        chosen_formats(["qcow2", "vdi"])


def test_two_that_end_alike_cannot_be_in_one_folder() -> None:
    with pytest.raises(InputError, match=r"qcow2 and qcow2-compressed both write NAME\.qcow2"):
        chosen_formats(["qcow2", "qcow2-compressed"])


def test_no_ending_is_the_manifest_s_or_another_format_s() -> None:
    endings = [known.ending for name, known in EXPORT_FORMATS.items() if name != "qcow2-compressed"]
    assert len(set(endings)) == len(endings)
    assert not {".json", ".spdx.json", ".cdx.json"} & set(endings)


def test_the_checksum_is_as_sha256sum_writes_it() -> None:
    assert checksum_line("ab" * 32, "x.raw") == b"ab" * 32 + b"  x.raw\n"
