"""What setup.cfg packs: an airgap that was installed, not checked out, has its schema, its demo and its default manifest."""

from __future__ import annotations

import configparser
from fnmatch import fnmatch
from pathlib import Path

from airgap.manifest import DEFAULT_NAME

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = configparser.ConfigParser()
SETTINGS.read(ROOT / "setup.cfg")


def test_every_file_of_the_package_that_is_no_module_is_packed() -> None:
    patterns = SETTINGS["options.package_data"]["airgap"].split()
    package = ROOT / "airgap"
    files = [path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()]
    data = [name for name in files if not name.endswith((".py", ".pyc"))]
    assert len(data) > 10
    assert [name for name in data if not any(fnmatch(name, pattern) for pattern in patterns)] == []


def test_the_default_manifest_is_installed_where_it_is_looked_for() -> None:
    placed = {
        f"{folder}/{Path(name.strip()).name}"
        for folder, names in SETTINGS["options.data_files"].items()
        for name in names.split(",")
    }
    assert [name for name in placed if name.endswith(DEFAULT_NAME)]
