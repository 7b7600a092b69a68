"""What a document in Firestore holds, however it was written there."""

import zlib

import pytest

from shared.errors import StoreError
from shared.gcp.documents import MOST_UNPACKED, document_of


def test_a_text_is_the_same_packed_or_not() -> None:
    assert document_of({"document": "text"}) == "text"
    assert document_of({"document": zlib.compress(b"text")}) == b"text"
    assert document_of({"document": zlib.compress(bytes(MOST_UNPACKED))}) == bytes(MOST_UNPACKED)


TOO_LARGE = zlib.compress(bytes(MOST_UNPACKED + 1))


@pytest.mark.parametrize("data", [b"", b"no zlib", zlib.compress(b"text")[:-1], TOO_LARGE])
def test_what_is_no_document_or_too_large(data: bytes) -> None:
    with pytest.raises(StoreError, match="its field `document` cannot be decompressed"):
        document_of({"document": data})
