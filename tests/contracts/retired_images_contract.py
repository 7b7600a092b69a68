"""What every Store must do for the retirement of images; a part of the store's contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from shared.build.build import ImageDocument, Retirement
from shared.build.damage import Damaged
from shared.ports import Store
from tests.world import values

IMAGE = ImageDocument("my-project", "hello-1", values.BUILD_ID, "d1" * 32)


class RetiredImagesContract:
    def test_no_build_takes_back_that_its_image_is_being_retired(self, store: Store) -> None:
        made = replace(IMAGE, state="published", id="4711")
        retired = replace(made, retired=Retirement(values.NOON, values.NOON + 1))
        store.create(values.build(), values.requested(), made)
        assert [store.save_image(retired, made) for _ in range(2)] == [True, False]
        stored = store.load(values.BUILD_ID)
        store.save(stored.build, stored.version, values.ticked(), replace(made, replaced=("old",)))
        now = replace(retired, replaced=("old",))
        assert store.image(IMAGE.project, IMAGE.name) == now
        left = replace(now, retired=Retirement(values.NOON, values.NOON + 1, left=True))
        assert store.save_image(left, now)
        assert store.image(IMAGE.project, IMAGE.name) == left

    def test_images_of_one_project_are_listed_whole(self, store: Store, damage: Callable[..., None]) -> None:
        made = []
        for count, (project, name) in enumerate([("local", "b"), ("local", "a"), ("locale", "c"), ("a-local", "d")]):
            build = values.build(id=f"{name}-0123456789ab")
            image = replace(IMAGE, project=project, name=name, build_id=build.id, id=str(count))
            store.create(build, values.requested(build_id=build.id), image)
            made.append(image)
        assert list(store.image_documents("local")) == [made[1], made[0]]
        assert list(store.image_documents("loca")) == []
        assert store.known_images("local", ["b", "c", "nothing"]) == {"b": made[0]}
        assert store.known_images("local", []) == {}
        damage("", "{", image=("local", "b"))
        first, second = store.image_documents("local")
        assert first == made[1]
        assert isinstance(second, Damaged)
        assert store.known_images("local", ["b"]) == {"b": second}
