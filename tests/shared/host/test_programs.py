"""Programs of this host."""

import pytest

from shared.errors import MissingTool
from shared.host.programs import find_tool


def test_a_missing_tool_is_an_error_of_ours() -> None:
    with pytest.raises(MissingTool, match="no-such-program-anywhere"):
        find_tool("no-such-program-anywhere")
