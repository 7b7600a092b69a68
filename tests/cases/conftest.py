"""The fixtures of tests/system."""

from tests.system.conftest import goldsmith as goldsmith
from tests.system.conftest import warm_cache as warm_cache
