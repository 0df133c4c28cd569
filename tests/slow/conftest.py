"""The same processes as in tests/integration."""

from tests.integration.conftest import *  # noqa: F403 - fixtures are found by name
