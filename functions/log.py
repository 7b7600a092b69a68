"""The log of a function: one JSON object per line, which Cloud Logging reads as an entry with severity and fields.

What may pass (the message will be redelivered) is a warning of one line; anything else that was not foreseen is an
error with its traceback. All entries about one build have one trace id, which is made of the build's id: no message has
to carry it from function to function. Messages' contents and the environment are never written: they hold parameters
and the key.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from contextvars import ContextVar
from typing import Any

from shared.build.identity import trace_id
from shared.errors import Passing

TRACE = "logging.googleapis.com/trace"  # the fields by which Cloud Logging joins entries, whatever function wrote them
LABELS = "logging.googleapis.com/labels"
_build_id: ContextVar[str] = ContextVar("build_id", default="")


def set_up_logging() -> None:
    """Make this format the only one in which this process logs.

    With LOG_EXECUTION_ID, which new functions have, the framework has given the root logger a handler of its own, and
    each entry would come twice. What the framework has put in the place of sys.stderr adds the execution's id to ours.
    """
    handler = logging.StreamHandler(sys.stderr)
    project = os.environ.get("GOLDSMITH_PROJECT", "")
    handler.setFormatter(JsonFormatter(os.environ.get("FUNCTION_TARGET", ""), project))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)


def set_build(build_id: str) -> None:
    """Name the build that this thread's entries are about; "" where it is not known yet."""
    _build_id.set(build_id)


class JsonFormatter(logging.Formatter):
    """`metric`, given by `extra`, names what Cloud Monitoring counts; `figures` has numbers for it."""

    def __init__(self, function: str, project: str = "") -> None:
        super().__init__()
        self._function = function
        self._project = project

    def format(self, record: logging.LogRecord) -> str:
        """Return the entry's line."""
        severity, message = record.levelname, record.getMessage()
        fault = record.exc_info[1] if record.exc_info else None
        if isinstance(fault, Passing):
            severity, message = "WARNING", f"to be tried again: {fault}"
        elif record.exc_info and fault is not None:
            message += "\n" + self.formatException(record.exc_info)
        entry: dict[str, Any] = {
            "severity": severity,
            "message": message,
            "logger": record.name,
            "function": self._function,
        }
        if build_id := _build_id.get():
            entry |= {"build_id": build_id, LABELS: {"build_id": build_id}}
            if self._project:
                entry[TRACE] = f"projects/{self._project}/traces/{trace_id(build_id)}"
        if metric := getattr(record, "metric", ""):
            entry["metric"] = metric
        if figures := getattr(record, "figures", None):
            entry["figures"] = figures
        return json.dumps(entry)
