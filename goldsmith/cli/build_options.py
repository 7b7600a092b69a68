"""The options that `goldsmith build` alone has, with their help; typer reads them at run time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from .completions import one_of
from .options import FAILURE, RESULT, RUN, not_empty

OutputFolder = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--output",
        "-o",
        metavar="FOLDER",
        rich_help_panel=RESULT,
        help="Write NAME.tar.gz and NAME.json into this folder.",
    ),
]
BootOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        metavar="direct|firmware",
        autocompletion=one_of("direct", "firmware"),
        rich_help_panel=RUN,
        help="How the build VM boots; instead of the spec's local.boot.",
    ),
]
CompressionOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        metavar="fast|best",
        autocompletion=one_of("fast", "best"),
        rich_help_panel=RESULT,
        help="Of the archive: fast, or best at a third of the speed.",
    ),
]
KeyOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        metavar="TEXT",
        callback=not_empty,
        help="Idempotency key: the same key again is the same build, not another one.",
    ),
]
NoCache = Annotated[
    bool,
    typer.Option(
        "--no-cache", rich_help_panel=RUN, help="Run all steps; neither use results of earlier builds nor keep any."
    ),
]
FirstStep = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--from",
        metavar="STEP",
        rich_help_panel=RUN,
        help="Run this step and all after it, whatever the cache has.",
    ),
]
CheckReproducible = Annotated[
    bool,
    typer.Option("--check-reproducible", rich_help_panel=RUN, help="Build twice, and fail unless both are the same."),
]
RetryFor = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        metavar="TIME",
        rich_help_panel=FAILURE,
        help="Keep an image so long that fails late, for `builds retry`; else 1d.",
    ),
]
