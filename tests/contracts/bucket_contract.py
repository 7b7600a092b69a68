"""What every Bucket must do: files on this machine, Cloud Storage in the cloud.

A subclass, its name beginning with Test, brings the fixtures `bucket` and `uri`: uri("a/b") is an object's URI there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.errors import AlreadyExists, Conflict, NotFound
from shared.ports import Bucket

Uri = Callable[[str], str]


class BucketContract:
    @pytest.mark.parametrize("data", [b"", b"{}", bytes(range(256)) * 4096], ids=["empty", "small", "a megabyte"])
    def test_what_is_written_is_read(self, bucket: Bucket, uri: Uri, data: bytes) -> None:
        bucket.write(uri("one"), data)
        assert bucket.read(uri("one")) == data

    def test_an_object_is_written_over(self, bucket: Bucket, uri: Uri) -> None:
        bucket.write(uri("one"), b"a longer text at first")
        bucket.write(uri("one"), b"short")
        assert bucket.read(uri("one")) == b"short"

    def test_folders_need_not_be_made(self, bucket: Bucket, uri: Uri) -> None:
        bucket.write(uri("specs/of a team/hellö.yaml"), b"1")
        bucket.write(uri("specs/other.yaml"), b"2")
        assert bucket.read(uri("specs/of a team/hellö.yaml")) == b"1"
        assert bucket.read(uri("specs/other.yaml")) == b"2"

    def test_an_absent_object_is_not_found(self, bucket: Bucket, uri: Uri) -> None:
        with pytest.raises(NotFound, match="nothing"):
            bucket.read(uri("nothing"))
        with pytest.raises(NotFound, match="here"):
            bucket.read(uri("nothing/here"))

    @pytest.mark.parametrize(
        ("start", "most", "read"),
        [
            (0, 4, b"0123"),
            (3, 4, b"3456"),
            (8, 9, b"89"),
            (10, 1, b""),
            (99, 9, b""),
            (-3, 9, b"789"),
            (-99, 2, b"01"),
            (0, 0, b""),
        ],
    )
    def test_a_part_is_read_with_the_size_of_all(
        self, bucket: Bucket, uri: Uri, start: int, most: int, read: bytes
    ) -> None:
        bucket.write(uri("one"), b"0123456789")
        assert bucket.read_part(uri("one"), start, most) == (read, 10)

    def test_nothing_has_no_part(self, bucket: Bucket, uri: Uri) -> None:
        bucket.write(uri("empty"), b"")
        assert bucket.read_part(uri("empty"), -5, 5) == (b"", 0)
        with pytest.raises(NotFound, match="nothing"):
            bucket.read_part(uri("nothing"), 0, 5)

    def test_what_an_object_is_checked_by(self, bucket: Bucket, uri: Uri) -> None:
        bucket.write(uri("one"), b"1" * 1000)
        found = bucket.checksum(uri("one"))
        assert found is not None
        assert (found.size, found.md5) == (1000, hashlib.md5(b"1" * 1000, usedforsecurity=False).hexdigest())
        assert bucket.checksum(uri("none")) is None

    def test_a_prefix_is_not_an_object(self, bucket: Bucket, uri: Uri) -> None:
        bucket.write(uri("folder/one"), b"1")
        with pytest.raises(NotFound, match="folder"):
            bucket.read(uri("folder"))

    def test_a_deleted_object_is_gone(self, bucket: Bucket, uri: Uri) -> None:
        bucket.write(uri("one"), b"1")
        bucket.write(uri("two"), b"2")
        bucket.delete(uri("one"))
        with pytest.raises(NotFound):
            bucket.read(uri("one"))
        assert bucket.read(uri("two")) == b"2"

    def test_absent_is_as_good_as_deleted(self, bucket: Bucket, uri: Uri) -> None:
        bucket.delete(uri("nothing"))
        bucket.delete(uri("nothing/here"))

    def test_a_reader_never_sees_a_part(self, bucket: Bucket, uri: Uri) -> None:
        """Three threads write whole objects of one letter each; whatever is read is one of them."""
        size = 200_000
        bucket.write(uri("one"), b"0" * size)

        def write(letter: int) -> None:
            for _ in range(10):
                bucket.write(uri("one"), bytes([letter]) * size)

        with ThreadPoolExecutor(3) as pool:
            writers = [pool.submit(write, letter) for letter in b"123"]
            while not all(writer.done() for writer in writers):
                data = bucket.read(uri("one"))
                assert len(data) == size
                assert data == data[:1] * size
            for writer in writers:
                writer.result()

    def test_an_object_is_written_over_at_the_generation_that_was_read(self, bucket: Bucket, uri: Uri) -> None:
        bucket.write(uri("one"), b"1")
        data, generation = bucket.read_with_generation(uri("one"))
        assert data == b"1"
        second = bucket.write_if_generation(uri("one"), b"22", generation)
        assert bucket.read_with_generation(uri("one")) == (b"22", second)
        with pytest.raises(Conflict, match="one"):
            bucket.write_if_generation(uri("one"), b"333", generation)
        assert bucket.read(uri("one")) == b"22"
        bucket.write_if_generation(uri("one"), b"333", second)
        assert bucket.read(uri("one")) == b"333"

    def test_a_generation_is_told_without_the_data(self, bucket: Bucket, uri: Uri) -> None:
        assert bucket.generation(uri("folder/one")) == ""
        made = bucket.write_if_generation(uri("folder/one"), b"1", "")
        assert bucket.generation(uri("folder/one")) == made
        assert bucket.generation(uri("folder/one/two")) == bucket.generation(uri("folder")) == ""
        bucket.delete(uri("folder/one"))
        assert bucket.generation(uri("folder/one")) == ""

    def test_an_object_is_created_once(self, bucket: Bucket, uri: Uri) -> None:
        made = bucket.write_if_generation(uri("folder/one"), b"1", "")
        assert bucket.read_with_generation(uri("folder/one")) == (b"1", made)
        with pytest.raises(Conflict, match="one"):
            bucket.write_if_generation(uri("folder/one"), b"another author's", "")
        assert bucket.read(uri("folder/one")) == b"1"

    def test_the_same_content_counts_as_written(self, bucket: Bucket, uri: Uri) -> None:
        """The answer of the first try may be lost on its way; the next one must not take itself for another."""
        made = bucket.write_if_generation(uri("one"), b"1", "")
        assert bucket.write_if_generation(uri("one"), b"1", "") == made
        second = bucket.write_if_generation(uri("one"), b"2", made)
        assert bucket.write_if_generation(uri("one"), b"2", made) == second

    def test_a_deleted_object_has_no_generation(self, bucket: Bucket, uri: Uri) -> None:
        with pytest.raises(NotFound, match="one"):
            bucket.read_with_generation(uri("one"))
        made = bucket.write_if_generation(uri("one"), b"1", "")
        bucket.delete(uri("one"))
        with pytest.raises(Conflict, match="one"):
            bucket.write_if_generation(uri("one"), b"2", made)
        with pytest.raises(NotFound):
            bucket.read(uri("one"))
        bucket.write_if_generation(uri("one"), b"3", "")
        assert bucket.read(uri("one")) == b"3"

    def test_of_writers_that_have_read_the_same_one_wins(self, bucket: Bucket, uri: Uri) -> None:
        """Each adds its letters to what is there, and starts again on a conflict: not one letter is lost."""

        def add(letter: bytes) -> None:
            for _ in range(5):
                while True:
                    data, generation = bucket.read_with_generation(uri("one"))
                    try:
                        bucket.write_if_generation(uri("one"), data + letter, generation)
                    except Conflict:
                        continue
                    break

        bucket.write(uri("one"), b"")
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(add, (b"a", b"b", b"c")))
        assert sorted(bucket.read(uri("one"))) == sorted(b"abc" * 5)

    def test_only_an_object_of_that_content_is_withdrawn(self, bucket: Bucket, uri: Uri) -> None:
        bucket.write(uri("folder/one"), b"ours")
        bucket.withdraw(uri("folder/one"), hashlib.sha256(b"another's").hexdigest())
        assert bucket.read(uri("folder/one")) == b"ours"
        for _ in range(2):
            bucket.withdraw(uri("folder/one"), hashlib.sha256(b"ours").hexdigest())
        with pytest.raises(NotFound):
            bucket.read(uri("folder/one"))

    def test_an_object_that_is_known_by_its_sums_is_withdrawn(self, bucket: Bucket, uri: Uri) -> None:
        """Another one stays, of another size or of the same."""
        bucket.write(uri("one"), b"ours")
        ours, digest = bucket.checksum(uri("one")), hashlib.sha256(b"ours").hexdigest()
        for other in (b"another's", b"Ours"):
            bucket.write(uri("one"), other)
            bucket.withdraw(uri("one"), digest, ours)
            assert bucket.read(uri("one")) == other
        bucket.write(uri("one"), b"ours")
        for _ in range(2):
            bucket.withdraw(uri("one"), digest, ours)
        with pytest.raises(NotFound):
            bucket.read(uri("one"))

    def test_a_staged_object_gets_its_name_once(self, bucket: Bucket, uri: Uri) -> None:
        bucket.write(uri("staged"), b"image")
        bucket.publish(uri("staged"), uri("final"))
        assert bucket.read(uri("final")) == b"image"
        with pytest.raises(NotFound):
            bucket.read(uri("staged"))
        bucket.publish(uri("staged"), uri("final"))  # a redelivery finds it done
        assert bucket.read(uri("final")) == b"image"

    def test_publishing_replaces_nothing(self, bucket: Bucket, uri: Uri) -> None:
        bucket.write(uri("staged"), b"ours")
        bucket.write(uri("final"), b"another program's")
        with pytest.raises(AlreadyExists, match="final"):
            bucket.publish(uri("staged"), uri("final"))
        assert bucket.read(uri("final")) == b"another program's"

    def test_what_was_never_staged_cannot_be_published(self, bucket: Bucket, uri: Uri) -> None:
        with pytest.raises(NotFound, match="staged"):
            bucket.publish(uri("staged"), uri("final"))
