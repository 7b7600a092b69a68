"""Images on Compute Engine: looked up, made of disks, labelled, deprecated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from google.cloud import compute_v1

from ...build.image.archived import ArchivedImage
from ...build.image.secure_boot import BootKey, SecureBootKeys
from ...errors import AlreadyExists, Conflict, NotFound, Permanent, Transient
from ...names import BUILD_LABEL, COPY_LABEL
from ...ports import CopyRequest, Duplicate, Image, ImageRequest
from .calls import API, Calls, Method, last
from .instance import customer_key

WITHDRAWN = (
    "gs-withdrawn"  # the family of images that are in none: Compute Engine refuses an empty one, and ignores null
)
_PAGE = 500  # images in one answer, the most that Compute Engine gives
_POLL = 5.0  # seconds
_SHARES = 10  # tries to change a policy while others do
_PAUSE = 1.0  # seconds, at most, between two of them
_POLICY_VERSION = 3  # with conditions, which a policy of an earlier version would lose
_IMAGE_USER = "roles/compute.imageUser"
_ACTIVE = ("", "ACTIVE")
_OBSOLETE = ("OBSOLETE", "DELETED")


class Images:
    """The images of all projects."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._client = calls.client(compute_v1.ImagesClient)

    def get(self, project: str, name: str) -> Image | None:
        """Look one up."""
        found = self._find(project, name)
        return None if found is None else _as_image(project, found)

    def list(self, project: str, *, family: str | None = None, prefix: str = "") -> Sequence[Image]:
        """List images, newest first. Compute Engine does the filtering; cos-cloud alone has thousands."""
        terms = f'family = "{family}"' if family else f'name eq "{prefix}.*"' if prefix else ""
        found = [image for image in self.every(project, terms) if image.name.startswith(prefix)]
        return sorted(found, key=lambda image: (-image.created, image.name))

    def temporary(self, project: str) -> Iterator[compute_v1.Image]:
        """Return the images that are made for one build alone: those that expire."""
        request = compute_v1.ListImagesRequest(project=project, filter="labels.goldsmith-expires:*", max_results=_PAGE)
        return self._calls.pages(f"images of project {project}", self._client.list, request)

    def create(self, request: ImageRequest) -> Image:
        """Make an image of a disk, which keeps the disk's licences, guest OS features and Shielded VM keys.

        Features of the request are added to them; keys of the request replace them.
        """
        disk = f"projects/{request.source_project}/zones/{request.zone}/disks/{request.source_disk}"
        image = compute_v1.Image(
            name=request.name,
            source_disk=API + disk,
            description=request.description,
            labels=dict(request.labels),
            licenses=[API + path for path in request.licenses],
            architecture=request.architecture.upper(),
            guest_os_features=[compute_v1.GuestOsFeature(type_=name) for name in request.guest_os_features],
            storage_locations=list(request.storage_locations),
            image_encryption_key=customer_key(request.kms_key),
            shielded_instance_initial_state=_initial_state(request.secure_boot_keys),
        )
        made = self.ensure(request.project, image, self._calls.until())
        if last(made.source_disk) != request.source_disk:
            raise AlreadyExists(
                f"image {request.name} of project {request.project} was made of {last(made.source_disk) or 'no disk'}, "
                f"not of {request.source_disk}; choose another name"
            )
        return _as_image(request.project, made)

    def import_archive(self, request: ArchivedImage, seconds: float) -> Image:
        """Make an image of an archive in Cloud Storage, and wait so long for it. AlreadyExists, Transient."""
        image = compute_v1.Image(
            name=request.name,
            raw_disk=compute_v1.RawDisk(source=request.archive.replace("gs://", "https://storage.googleapis.com/", 1)),
            description=request.description,
            labels={**request.labels, COPY_LABEL: request.copy_of},
            licenses=[API + path for path in request.licenses],
            architecture=request.architecture.upper(),
            guest_os_features=[compute_v1.GuestOsFeature(type_=name) for name in request.guest_os_features],
            storage_locations=list(request.storage_locations),
            image_encryption_key=customer_key(request.kms_key),
            shielded_instance_initial_state=_initial_state(request.secure_boot_keys),
        )
        made = self.ensure(request.project, image, self._calls.until(seconds))
        if made.labels.get(COPY_LABEL) != request.copy_of or made.source_disk or made.source_image_id:
            raise AlreadyExists(
                f"image {request.name} of project {request.project} is another one; choose another name"
            )
        return _as_image(request.project, made)

    def copy(self, request: CopyRequest) -> Image:
        """Make an image of another one; Compute Engine gives it the licences, features and Shielded VM keys of that.

        Key and places it would choose anew, so they are named.
        """
        what = f"image {request.name} of project {request.project}"
        until = self._calls.until()
        found = self._find(request.project, request.name)
        if found is None:
            source = self._known(request.project, request.source)
            if str(source.id) != request.source_id:
                raise NotFound(f"image {request.source} is gone from project {request.project}")
            image = compute_v1.Image(
                name=request.name,
                source_image=API + f"projects/{request.project}/global/images/{request.source}",
                description=source.description,
                labels=dict(source.labels),
                storage_locations=list(source.storage_locations),
                image_encryption_key=customer_key(_kms_key(source)),
            )
            known = ("insert", request.project, "images", request.name, request.source_id, f"{request.asked:.6f}")
            insert = compute_v1.InsertImageRequest(
                project=request.project, image_resource=image, request_id=self._calls.request_id(*known)
            )
            with suppress(AlreadyExists):  # another delivery of the same request was faster
                operation = self._calls.start(what, self._client.insert_unary, insert)
                self._calls.finish(what, operation, request.project, until)
            found = self._find(request.project, request.name)
        found = _made(what, self._wait(what, request.project, found, until))
        if str(found.source_image_id or "") != request.source_id:
            raise AlreadyExists(
                f"{what} is there and is no copy of {request.source}; delete it, or choose another name"
            )
        return _as_image(request.project, found)

    def duplicate(self, wanted: Duplicate) -> Image:
        """Make an image of another one, which has its licences, features and Shielded VM keys; then its family.

        Without a key it has the image's own: Compute Engine would take Google's.
        """
        key = wanted.kms_key or _kms_key(self._known(wanted.of.project, wanted.of.name))
        image = compute_v1.Image(
            name=wanted.name,
            source_image=_url(wanted.of.project, wanted.of.name),
            description=wanted.of.description,
            labels={**wanted.of.labels, COPY_LABEL: wanted.of.id},
            storage_locations=[] if wanted.storage_location is None else [wanted.storage_location],
            image_encryption_key=customer_key(key),
        )
        made = self.ensure(wanted.project, image, self._calls.until())
        if (made.labels.get(COPY_LABEL), str(made.source_image_id)) != (wanted.of.id, wanted.of.id):
            raise AlreadyExists(
                f"image {wanted.name} of project {wanted.project} is no copy of {wanted.of.project}/{wanted.of.name}; "
                "delete it, or give the copy another name"
            )
        if wanted.family is not None:
            self.set_family(wanted.project, wanted.name, wanted.family)
        return _as_image(wanted.project, self._known(wanted.project, wanted.name))

    def share(self, image: Image, member: str) -> None:
        """Add one member to the image's users. Its policy is written as it was read, or not at all (etag)."""
        what = f"the policy of image {image.name} of project {image.project}"
        for _ in range(_SHARES):
            if str(self._known(image.project, image.name).id) != image.id:
                raise NotFound(f"image {image.name} is gone from project {image.project}")
            read = compute_v1.GetIamPolicyImageRequest(
                project=image.project, resource=image.name, options_requested_policy_version=_POLICY_VERSION
            )
            policy = self._calls.start(what, self._client.get_iam_policy, read)
            ours = [each for each in policy.bindings if each.role == _IMAGE_USER and not each.condition.expression]
            if any(member in each.members for each in ours):
                return
            if ours:
                ours[0].members.append(member)
            else:
                policy.bindings.append(compute_v1.Binding(role=_IMAGE_USER, members=[member]))
            write = compute_v1.SetIamPolicyImageRequest(
                project=image.project,
                resource=image.name,
                global_set_policy_request_resource=compute_v1.GlobalSetPolicyRequest(policy=policy),
            )
            try:
                self._calls.start(what, self._client.set_iam_policy, write)
            except (Conflict, AlreadyExists):  # others have written it since: 412, 409
                self._calls.poll(what, self._calls.until(), _PAUSE)
                continue
            return
        raise Transient(f"{what}: others change it at the same time; it can be tried again")

    def ensure(self, project: str, image: compute_v1.Image, until: float) -> compute_v1.Image:
        """Make an image unless one of its name and build is there, and wait until that is ready. AlreadyExists."""
        what = f"image {image.name} of project {project}"
        found = self._find(project, image.name)
        if found is None:
            request = compute_v1.InsertImageRequest(
                project=project,
                image_resource=image,
                request_id=self._calls.request_id(
                    "insert",
                    project,
                    "images",
                    image.name,
                    image.labels.get(BUILD_LABEL, ""),
                    image.labels.get(COPY_LABEL, ""),
                    image.source_disk or image.raw_disk.source or image.source_image,
                ),
            )
            try:
                operation = self._calls.start(what, self._client.insert_unary, request)
                self._calls.finish(what, operation, project, until)
            except AlreadyExists:
                pass  # another delivery of the same order was faster
            found = self._find(project, image.name)
        found = self._wait(what, project, found, until)
        if found is not None and found.labels.get(BUILD_LABEL) != image.labels.get(BUILD_LABEL):
            raise AlreadyExists(
                f"{what} is there and was not made by this build, since its label {BUILD_LABEL} is "
                f"{found.labels.get(BUILD_LABEL) or 'missing'}; delete it, or choose another name"
            )
        return _made(what, found)

    def _wait(self, what: str, project: str, found: compute_v1.Image | None, until: float) -> compute_v1.Image | None:
        """Wait until an image is made, or could not be."""
        while found is not None and found.status not in ("READY", "FAILED"):
            self._calls.poll(what, until, _POLL)
            found = self._find(project, found.name)
        return found

    def label(self, image: Image, labels: Mapping[str, str]) -> None:
        """Set labels, where they are still as in `image`."""
        found = self._known(image.project, image.name)
        if str(found.id) == image.id and dict(found.labels) == dict(labels):
            return  # by another delivery, or a call whose answer was lost
        if str(found.id) != image.id or dict(found.labels) != dict(image.labels):
            raise Transient(_changed(image))
        wanted = compute_v1.GlobalSetLabelsRequest(labels=dict(labels), label_fingerprint=found.label_fingerprint)
        request = compute_v1.SetLabelsImageRequest(
            project=image.project, resource=image.name, global_set_labels_request_resource=wanted
        )
        try:
            self._change(image.project, image.name, self._client.set_labels_unary, request)
        except Conflict as error:
            raise Transient(_changed(image)) from error

    def deprecate(self, project: str, name: str, replacement: str, deletes_at: float | None) -> None:
        """Mark an image DEPRECATED in favour of another."""
        found = self._known(project, name)
        if found.deprecated.state == "DEPRECATED" and last(found.deprecated.replacement) == replacement:
            return
        if found.deprecated.state in _OBSOLETE:
            return
        status = compute_v1.DeprecationStatus(state="DEPRECATED", replacement=_url(project, replacement))
        if deletes_at is not None:
            status.deleted = datetime.fromtimestamp(deletes_at, UTC).isoformat(timespec="seconds")
        request = compute_v1.DeprecateImageRequest(
            project=project,
            image=name,
            deprecation_status_resource=status,
            request_id=self._calls.request_id(
                "deprecate", project, "images", name, str(found.id), replacement, status.deleted
            ),
        )
        self._set_mark(project, name, request)

    def activate(self, image: Image) -> None:
        """Take the mark DEPRECATED away, where it is still as in `image`."""
        found = self._known(image.project, image.name)
        if str(found.id) == image.id and found.deprecated.state in _ACTIVE:
            return
        mark = str(found.id), found.deprecated.state, last(found.deprecated.replacement) or None
        if mark != (image.id, image.deprecated, image.replacement) or image.is_obsolete:
            raise Transient(_changed(image))
        self._mark(image, compute_v1.DeprecationStatus(state="ACTIVE"))

    def obsolete(self, image: Image, active: str) -> None:
        """Mark an image OBSOLETE while another is active; Compute Engine has no condition, so it is looked at twice."""
        self._check_active(image, active)
        found = self._known(image.project, image.name)
        state = found.deprecated.state
        as_seen = state in _OBSOLETE or (None if state in _ACTIVE else state) == image.deprecated
        if str(found.id) != image.id or not (active or as_seen):
            raise Transient(_changed(image))
        if state not in _OBSOLETE:
            replacement = _url(image.project, active) if active else None
            self._mark(image, compute_v1.DeprecationStatus(state="OBSOLETE", replacement=replacement))
        self._check_active(image, active)

    def _check_active(self, image: Image, active: str) -> None:
        """Raise Transient where another image of the same family is not active."""
        if not active:
            return
        other, family = self._known(image.project, active), self._known(image.project, image.name).family
        if other.deprecated.state not in _ACTIVE or other.family != family:
            raise Transient(f"image {active} is no active image of family {family} any more")

    def _mark(self, image: Image, status: compute_v1.DeprecationStatus) -> None:
        """Set a mark without a request id: an image can get and lose the same one several times in an hour."""
        request = compute_v1.DeprecateImageRequest(
            project=image.project, image=image.name, deprecation_status_resource=status
        )
        self._set_mark(image.project, image.name, request)

    def _set_mark(self, project: str, name: str, request: compute_v1.DeprecateImageRequest) -> None:
        try:
            self._change(project, name, self._client.deprecate_unary, request)
        except (Conflict, AlreadyExists) as error:  # others change the image at the same time
            raise Transient(f"{error}; it can be tried again") from error

    def delete(self, project: str, name: str, image_id: str = "") -> None:
        """Delete an image, with an id only the one that has it; absent is fine."""
        found = self._find(project, name)
        if found is None or image_id not in ("", str(found.id)):
            return
        request = compute_v1.DeleteImageRequest(
            project=project,
            image=name,
            request_id=self._calls.request_id("delete", project, "images", name, str(found.id)),
        )
        try:
            self._change(project, name, self._client.delete_unary, request)
        except NotFound:
            return

    def set_family(self, project: str, name: str, family: str | None) -> None:
        """Put an image into a family, or into WITHDRAWN, and check that it is there."""
        before, wanted = self._known(project, name).family, family or WITHDRAWN
        if before == wanted or (not before and family is None):
            return
        patch = (
            compute_v1.PatchImageRequest(  # without a request id: joining, leaving, joining again are three requests
                project=project, image=name, image_resource=compute_v1.Image(family=wanted)
            )
        )
        try:
            self._change(project, name, self._client.patch_unary, patch)
        except (Conflict, AlreadyExists) as error:  # others change the image at the same time
            raise Transient(f"{error}; it can be tried again") from error
        found = self._known(project, name).family
        if found != wanted:
            text = f"image {name} of project {project}: its family is {found or 'none'} after it was set to {wanted}"
            raise Permanent(text) if family is None else Transient(f"{text}; it can be tried again")

    def _change(self, project: str, name: str, method: Method, request: object) -> None:
        what = f"image {name} of project {project}"
        self._calls.finish(what, self._calls.start(what, method, request), project, self._calls.until())

    def _find(self, project: str, name: str) -> compute_v1.Image | None:
        request = compute_v1.GetImageRequest(project=project, image=name)
        return self._calls.look(f"image {name} of project {project}", self._client.get, request)

    def _known(self, project: str, name: str) -> compute_v1.Image:
        found = self._find(project, name)
        if found is None:
            raise NotFound(f"image {name} is gone from project {project}")
        return found

    def every(self, project: str, terms: str = "") -> Iterator[Image]:
        """Return one image after the other: of a page, only what is kept is held."""
        request = compute_v1.ListImagesRequest(project=project, filter=terms, max_results=_PAGE)
        for page in self._calls.whole_pages(f"images of project {project}", self._client.list, request):
            for found in compute_v1.ImageList.pb(page).items:
                yield _from_message(project, found)


def _made(what: str, found: compute_v1.Image | None) -> compute_v1.Image:
    """Return an image that has been made. Transient, Permanent."""
    if found is None:
        raise Transient(f"{what} was deleted while it was being made; it is made again")
    if found.status == "FAILED":
        raise Permanent(f"{what}: Compute Engine could not make it; delete it and try again")
    return found


def _initial_state(keys: SecureBootKeys | None) -> compute_v1.InitialStateConfig | None:
    """Return the keys of Secure Boot as requests have them; None, which they leave out, for those of the disk."""
    if keys is None:
        return None
    return compute_v1.InitialStateConfig(
        pk=None if keys.pk is None else _buffer(keys.pk),
        keks=[_buffer(key) for key in keys.kek],
        dbs=[_buffer(key) for key in keys.db],
        dbxs=[_buffer(key) for key in keys.dbx],
    )


def _buffer(key: BootKey) -> compute_v1.FileContentBuffer:
    return compute_v1.FileContentBuffer(content=key.content, file_type=key.kind)


def _url(project: str, name: str) -> str:
    return f"{API}projects/{project}/global/images/{name}"


def _changed(image: Image) -> str:
    return f"image {image.name} of project {image.project} has changed meanwhile; it is looked at again"


def _kms_key(image: compute_v1.Image) -> str | None:
    """Return the key that encrypts an image, without its version."""
    return image.image_encryption_key.kms_key_name.partition("/cryptoKeyVersions/")[0] or None


def _as_image(project: str, found: compute_v1.Image) -> Image:
    return _from_message(project, compute_v1.Image.pb(found))


def _from_message(project: str, found: Any) -> Image:
    """Return an image from its bare message: through the client's own class, each field takes six times as long."""
    state = found.deprecated.state
    return Image(
        project=project,
        name=found.name,
        id=str(found.id),
        created=_unix_seconds(found.creation_timestamp),
        family=found.family if found.family != WITHDRAWN and found.family else None,
        description=found.description,
        architecture=(found.architecture or "x86_64").lower(),
        disk_size_gb=found.disk_size_gb,
        archive_bytes=found.archive_size_bytes,
        labels=dict(found.labels),
        licenses=tuple(url[url.index("projects/") :] for url in found.licenses),
        source_disk=last(found.source_disk) or None,
        deprecated=state if state and state != "ACTIVE" else None,
        replacement=last(found.deprecated.replacement) or None,
        deletes_at=_unix_seconds(found.deprecated.deleted) if found.deprecated.deleted else None,
        source_image=str(found.source_image_id) if found.source_image_id else None,
    )


def _unix_seconds(text: str) -> float:
    """Read a time as the API writes it, RFC 3339."""
    return datetime.fromisoformat(text).timestamp()
