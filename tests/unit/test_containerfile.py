"""The container image gets all of the code. tests/system/test_container.py builds it."""

import configparser
import re
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_every_module_and_package_is_copied():
    lines = re.findall(
        r"^COPY (?!--|requirements)(.*) \S+$", (PROJECT / "deploy" / "Containerfile").read_text(), re.MULTILINE
    )
    options = configparser.ConfigParser()
    options.read(PROJECT / "setup.cfg")
    modules, packages = (options["options"][name].split(", ") for name in ("py_modules", "packages"))
    code = {f"{name}.py" for name in modules} | {name for name in packages if "." not in name}
    assert set(" ".join(lines).split()) == code | {"gunicorn.conf.py", "tracklog"}
