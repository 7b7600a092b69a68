"""Where Google Cloud looks for the functions."""

from functions.advance_build import advance_build
from functions.clean_up import clean_up
from functions.create_resources import create_resources
from functions.dashboard import dashboard
from functions.deprecate_images import deprecate_images
from functions.export_image import export_image
from functions.followers.call_webhooks import call_webhooks
from functions.followers.send_spans import send_spans
from functions.grow_disk import grow_disk
from functions.label_image import label_image
from functions.schedules.expire_builds import expire_builds
from functions.schedules.retire_images import retire_images
from functions.start_build import start_build
from functions.verify_image import verify_image

__all__ = [
    "advance_build",
    "call_webhooks",
    "clean_up",
    "create_resources",
    "dashboard",
    "deprecate_images",
    "expire_builds",
    "export_image",
    "grow_disk",
    "label_image",
    "retire_images",
    "send_spans",
    "start_build",
    "verify_image",
]
