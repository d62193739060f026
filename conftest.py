import pytest


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="run the long forms too")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--full"):
        for item in items:
            if item.get_closest_marker("full"):
                item.add_marker(pytest.mark.skip(reason="a long form: make test-full"))
