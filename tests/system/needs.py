"""Skip a test if the machine lacks a program or folder that it needs."""

import importlib
import os
import shutil

import pytest
from service import PROJECT

#: How to install each requirement of the tests that is not a Debian package of the same name.
INSTALL = {
    ".venv-browse": "make .venv-browse/installed",
    ".venv-warehouse": "make .venv-warehouse/installed",
    "ip": "apt install iproute2",
    "java": "apt install default-jre-headless",
    "javac": "apt install default-jdk-headless",
    "namespaces and cgroups of version 2": "run the tests on a host that allows them",
    "namespaces with mounts of their own": "run the tests on a host that allows them",
    "node": "apt install nodejs",
    "php": "apt install php-cli",
    "nsenter": "apt install util-linux",
    "psycopg": "pip install 'psycopg[binary]'",
    "promtool": "apt install prometheus",
    "script": "apt install bsdutils",
    "setpriv": "apt install util-linux",
    "systemd-analyze": "apt install systemd",
    "systemd-nspawn": "apt install systemd-container",
    "tests/system/clients/java/jars": "mvn --file tests/system/clients/java dependency:copy-dependencies",
    "tests/system/clients/node_modules": "npm ci --prefix tests/system/clients",
    "tests/system/clients/python/installed": "make tests/system/clients/python/installed",
    "tests/system/kafka/jars": "mvn --file tests/system/kafka dependency:copy-dependencies",
    "the right to boot a container": "run the tests as root",
    "the right to mount a file system": "run the tests as root",
}


def is_here(part):
    """Return whether a program, or a path in the checkout, is there."""
    return shutil.which(part) or shutil.which(part, path="/usr/sbin") or (PROJECT / part).exists()


def need(part):
    """Skip the test if a program or a path in the checkout is missing. In CI, fail it."""
    if not is_here(part):
        lack(part)


def need_module(name):
    """Import a module and return it; skip the test, or a whole file of tests, if it is missing. In CI, fail."""
    try:
        return importlib.import_module(name)
    except ImportError:
        lack(name)


def lack(part):
    """Skip the test and print what to install. In CI, which should have everything, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{part} is missing")
    pytest.skip(f"{part}; {INSTALL.get(part, f'apt install {part}')}", allow_module_level=True)
