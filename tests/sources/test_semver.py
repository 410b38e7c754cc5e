"""Versions and ranges, as Helm understands them; the last test asks helm itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airgap.errors import ConfigurationError
from airgap.sources.semver import Range, Version, newest
from airgap.tools import Helm
from tests.world.registries import find_binary

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSIONS = ["1.2.0", "1.2.3", "1.10.0", "2.0.0-rc.1", "2.0.0", "0.3.1", "0.3.9", "0.0.4", "3.0.0-PR7", "not-one", "2.1.0+meta"]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("", "2.1.0+meta"),
        ("*", "2.1.0+meta"),
        ("1.2.0", "1.2.0"),
        ("v1.2.0", "1.2.0"),
        ("1.2", "1.2.3"),
        ("1", "1.10.0"),
        ("1.x", "1.10.0"),
        ("1.2.x", "1.2.3"),
        ("~1.2", "1.2.3"),
        ("~1", "1.10.0"),
        ("~1.2.1", "1.2.3"),
        ("^1.2.0", "1.10.0"),
        ("^0.3", "0.3.9"),
        ("^0.0.4", "0.0.4"),
        ("~>1.2.0", "1.2.3"),
        (">=1.2.3, <2", "1.10.0"),
        (">=1.2.3 <2.0.0", "1.10.0"),
        (">1.2", "2.1.0+meta"),
        ("<=1.2", "1.2.3"),
        ("<1.2", "0.3.9"),
        ("=<0.3", "0.3.9"),
        ("1.2.0 - 1.9", "1.2.3"),
        ("0.3.x || 1.2.x", "1.2.3"),
        (">=2.0.0-0", "3.0.0-PR7"),
        ("2.0.0-rc.1", "2.0.0-rc.1"),
        ("3.0.0-PR7", "3.0.0-PR7"),
        ("!=2.1.0, !=2.0.0", "1.10.0"),
        ("> 9", None),
        ("9.9.9", None),
    ],
)
def test_the_version_that_helm_would_take(wanted: str, chosen: str | None):
    assert newest(VERSIONS, wanted) == chosen


def test_versions_are_ordered_as_the_specification_says():
    order = [
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
    ]
    parsed = [Version.parse(text) for text in order]
    assert sorted(filter(None, reversed(parsed))) == parsed


@pytest.mark.parametrize("text", ["latest", "1.2.3.4", ">=", "~ >", "1.2 garbage"])
def test_what_is_no_range_is_refused(text: str):
    with pytest.raises(ConfigurationError, match="no version or version range"):
        Range.parse(text)


@pytest.mark.helm
@pytest.mark.parametrize(
    "wanted", ["^0.3", "~1.2", "1.x", ">=1.2.3, <2", ">1.2", "<=1.2", "1.2.0 - 1.9", "^0.0.4", "!=2.1.0", "<1.2", "*", "~1"]
)
def test_helms_own_kube_version_gate_agrees(wanted: str, tmp_path: Path):
    """Chart.yaml's kubeVersion goes through the same library; a chart is refused unless the cluster is in the range."""
    (tmp_path / "Chart.yaml").write_text(f"apiVersion: v2\nname: t\nversion: 1.0.0\nkubeVersion: {wanted!r}\n")
    helm = Helm.at(Path(find_binary("helm")))
    stable: Sequence[str] = [text for text in VERSIONS if text[0].isdigit() and "-" not in text and "+" not in text]
    for text in stable:
        try:
            helm.template(tmp_path, release="r", namespace="n", kube_version=text)
            admitted = True
        except ConfigurationError:
            admitted = False
        version = Version.parse(text)
        assert version
        assert Range.parse(wanted).admits(version) == admitted, text
