"""Fixtures every test may use: throw-away migrated databases (see tenantry_cli.testing)."""

import pytest

pytest_plugins = ["tenantry_cli.testing"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: none is left to one worker when the rest is done."""
    slow = {
        one.path
        for one in items
        if one.get_closest_marker("slow") or one.get_closest_marker("stack")
    }
    items.sort(key=lambda one: one.path not in slow)
