"""Charts: reading with care, the tree, packing, and helm's own idea of the values."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from airgap.chart import Chart
from airgap.errors import ConfigurationError, ToolError
from airgap.tools import Helm
from airgap.values import load_yaml
from tests.world.registries import find_binary

CHART = b"apiVersion: v2\nname: app\nversion: 1.0.0\n"


def tgz(files: dict[str, bytes], *, top: str = "app", extra: list[tarfile.TarInfo] | None = None) -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        folder = tarfile.TarInfo(top)
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, data in files.items():
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for member in extra or []:
            tar.addfile(member, io.BytesIO(b"\0" * member.size))
    return gzip.compress(plain.getvalue(), mtime=0)


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def umbrella(folder: Path) -> Path:
    """A chart with a subchart under two aliases, one of them off, and an optional one in an optional one."""
    return write(
        folder,
        {
            "Chart.yaml": "apiVersion: v2\nname: app\nversion: 1.0.0\nappVersion: '2'\nannotations: {a: b}\ndependencies:\n"
            "- {name: base, version: 0.1.0, alias: web, condition: web.install}\n"
            "- {name: base, version: 0.1.0, alias: worker, condition: 'worker.install, worker.on', tags: [extra]}\n"
            "- {name: store, version: 0.1.0, condition: store.install}\n",
            "values.yaml": "web: {install: true}\nworker: {install: false}\nstore: {install: false}\nglobal: {x: 1}\n",
            "charts/base/Chart.yaml": "apiVersion: v2\nname: base\nversion: 0.1.0\n",
            "charts/base/values.yaml": "image: {repository: web, tag: '1'}\n",
            "charts/store/Chart.yaml": "apiVersion: v2\nname: store\nversion: 0.1.0\n"
            "dependencies: [{name: keeper, version: 1.0.0, condition: keeper.enabled}]\n",
            "charts/store/values.yaml": "keeper: {enabled: false}\n",
            "charts/store/charts/keeper/Chart.yaml": "apiVersion: v2\nname: keeper\nversion: 1.0.0\n",
            "charts/lib/Chart.yaml": "apiVersion: v2\nname: lib\nversion: 1.0.0\ntype: library\n",
            "templates/x.yaml": "kind: ConfigMap\napiVersion: v1\nmetadata: {name: x}\n",
        },
    )


def test_a_chart_is_read_from_its_archive_and_keeps_its_bytes():
    data = tgz({"Chart.yaml": CHART, "values.yaml": b"a: {b: 1}\n", "templates/x.yaml": b"x"})
    chart = Chart.from_bytes(data, "app.tgz")
    assert (chart.name, chart.version, chart.label, chart.app_version) == ("app", "1.0.0", "app-1.0.0", "")
    assert chart.values == {"a": {"b": 1}}
    assert chart.templates == {"templates/x.yaml": "x"}
    assert chart.archive == data


@pytest.mark.parametrize("name", ["../evil", "a/../../b", "/etc/x", "a//b", "a\x1b[2J", "C:/x", "a\\b"])
def test_members_that_would_leave_the_folder_are_refused(name: str):
    member = tarfile.TarInfo(f"app/{name}" if not name.startswith("/") else name)
    with pytest.raises(ConfigurationError, match="outside the chart's folder"):
        Chart.from_bytes(tgz({"Chart.yaml": CHART}, extra=[member]), "app.tgz")


def test_links_and_devices_are_refused():
    link = tarfile.TarInfo("app/x")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with pytest.raises(ConfigurationError, match="a link or a device"):
        Chart.from_bytes(tgz({"Chart.yaml": CHART}, extra=[link]), "app.tgz")


def test_a_file_twice_or_too_large_is_refused():
    twice = tarfile.TarInfo("app/Chart.yaml")
    with pytest.raises(ConfigurationError, match="twice"):
        Chart.from_bytes(tgz({"Chart.yaml": CHART}, extra=[twice]), "app.tgz")
    large = tarfile.TarInfo("app/big")
    large.size = 6 * 1024**2
    with pytest.raises(ConfigurationError, match="larger than 5 MiB"):
        Chart.from_bytes(tgz({"Chart.yaml": CHART}, extra=[large]), "app.tgz")


def test_a_decompression_bomb_ends_at_the_limit():
    parts = []
    for number in range(25):
        part = tarfile.TarInfo(f"app/{number}")
        part.size = 5 * 1024**2
        parts.append(part)
    with pytest.raises(ConfigurationError, match="more than 100 MiB"):
        Chart.from_bytes(tgz({"Chart.yaml": CHART}, extra=parts), "app.tgz")


def test_too_many_files_are_refused():
    with pytest.raises(ConfigurationError, match="more than 20000 files"):
        Chart.from_bytes(tgz({"Chart.yaml": CHART, **{f"f{number}": b"" for number in range(20_001)}}), "app.tgz")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "no readable chart archive"),
        (b"not gzip", "no readable chart archive"),
        (gzip.compress(b"not tar" * 200, mtime=0), "no readable chart archive"),
        (tgz({"Chart.yaml": CHART})[:60], "no readable chart archive"),
        (tgz({"values.yaml": b""}), "it has no Chart.yaml"),
        (tgz({"Chart.yaml": b"[]"}), "no mapping"),
        (tgz({"Chart.yaml": b"name: ../x\nversion: 1.0.0"}), "no chart name"),
        (tgz({"Chart.yaml": b"name: x\nversion: --set"}), "no semantic version"),
        (tgz({"Chart.yaml": b"name: [\n"}), "Chart.yaml"),
    ],
)
def test_what_is_no_chart_is_told(data: bytes, told: str):
    with pytest.raises(ConfigurationError, match=told):
        Chart.from_bytes(data, "app.tgz")


def test_values_that_cannot_be_read_are_a_problem_and_no_stop():
    chart = Chart.from_bytes(tgz({"Chart.yaml": CHART, "values.yaml": b"a: !!python/object:os.system x\n"}), "app.tgz")
    assert chart.values == {}
    assert "values.yaml" in chart.problems[0]
    assert Chart.from_bytes(tgz({"Chart.yaml": CHART, "values.yaml": b"a: 1\na: 2\n"}), "app.tgz").values == {"a": 2}


def test_a_chart_that_is_not_there_is_told(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Chart.load(tmp_path / "none.tgz")


def test_the_tree_has_an_aliased_chart_once_per_alias(tmp_path: Path):
    chart = Chart.load(umbrella(tmp_path))
    assert [(node.key, node.chart.name, node.conditions, node.tags) for node in chart.tree()] == [
        ("", "app", (), ()),
        ("lib", "lib", (), ()),
        ("web", "base", ("web.install",), ()),
        ("worker", "base", ("worker.install", "worker.on"), ("extra",)),
        ("store", "store", ("store.install",), ()),
        ("store.keeper", "keeper", ("store.keeper.enabled",), ()),
    ]


def test_subcharts_may_be_archives_and_old_charts_have_requirements():
    inner = tgz({"Chart.yaml": b"apiVersion: v1\nname: base\nversion: 0.1.0\n"}, top="base")
    chart = Chart.from_bytes(
        tgz(
            {
                "Chart.yaml": b"apiVersion: v1\nname: app\nversion: 1.0.0\n",
                "requirements.yaml": b"dependencies:\n- {name: base, version: 0.1.0, condition: base.on}\n- 3\n",
                "charts/base-0.1.0.tgz": inner,
                "charts/_ignored/Chart.yaml": CHART,
                "charts/README.md": b"",
            }
        ),
        "app.tgz",
    )
    assert [(node.key, node.conditions) for node in chart.tree()] == [("", ()), ("base", ("base.on",))]


def test_of_two_versions_of_a_subchart_the_one_that_is_written_down_is_taken(tmp_path: Path):
    folder = write(
        tmp_path,
        {
            "Chart.yaml": "apiVersion: v2\nname: app\nversion: 1.0.0\ndependencies: [{name: b, version: 2.0.0}]\n",
            "charts/b-1/Chart.yaml": "name: b\nversion: 1.0.0\n",
            "charts/b-2/Chart.yaml": "name: b\nversion: 2.0.0\n",
        },
    )
    assert [node.chart.label for node in Chart.load(folder).tree()] == ["app-1.0.0", "b-2.0.0"]


def test_charts_that_are_missing_are_listed_also_those_of_subcharts(tmp_path: Path):
    folder = write(
        tmp_path,
        {
            "Chart.yaml": "apiVersion: v2\nname: app\nversion: 1.0.0\n"
            "dependencies: [{name: a, version: 1}, {name: b, version: 1}]\n",
            "charts/a/Chart.yaml": "apiVersion: v2\nname: a\nversion: 1.0.0\ndependencies: [{name: c, version: 1}]\n",
        },
    )
    assert sorted(dependency.name for dependency in Chart.load(folder).missing) == ["b", "c"]


def test_charts_nested_without_end_are_refused():
    data = tgz({"Chart.yaml": CHART})
    for _ in range(10):
        data = tgz({"Chart.yaml": CHART, "charts/app-1.0.0.tgz": data})
    with pytest.raises(ConfigurationError, match="more than 8 deep"):
        Chart.from_bytes(data, "app.tgz")


def test_a_folder_packs_to_the_same_bytes_whatever_its_clock(tmp_path: Path):
    first, second = umbrella(tmp_path / "a"), umbrella(tmp_path / "b")
    os.utime(second / "Chart.yaml", (1, 1))
    assert Chart.load(first).archive == Chart.load(second).archive
    again = Chart.from_bytes(Chart.load(first).archive, "packed")
    assert again.files == Chart.load(first).files


def test_helmignore_is_followed_in_helms_own_dialect(tmp_path: Path):
    folder = write(
        tmp_path,
        {
            ".helmignore": "# notes\n*.bak\n/top.txt\nsub/only.txt\ndocs/\n[ab].md\n\\x?y\n",
            "Chart.yaml": CHART.decode(),
            "x.bak": "",
            "sub/y.bak": "",
            "top.txt": "",
            "sub/top.txt": "",
            "sub/only.txt": "",
            "docs/a": "",
            "a.md": "",
            "c.md": "",
            "templates/.hidden": "",
            "xzy": "",
        },
    )
    assert sorted(Chart.load(folder).files) == [".helmignore", "Chart.yaml", "c.md", "sub/top.txt"]


def test_a_negated_line_of_helmignore_drops_all_that_it_does_not_match(tmp_path: Path):
    write(tmp_path, {".helmignore": "!*.yaml\n", "Chart.yaml": CHART.decode(), "x.txt": ""})
    assert sorted(Chart.load(tmp_path).files) == ["Chart.yaml"]
    (tmp_path / ".helmignore").write_text("a/**\n")
    with pytest.raises(ConfigurationError, match="not supported by helm"):
        Chart.load(tmp_path)


def test_links_of_a_folder_may_not_lead_out(tmp_path: Path):
    folder = write(tmp_path / "app", {"Chart.yaml": CHART.decode(), "a.txt": "inside"})
    (folder / "b.txt").symlink_to(folder / "a.txt")
    assert Chart.load(folder).files["b.txt"] == b"inside"
    (tmp_path / "secret").write_text("s")
    (folder / "c.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(ConfigurationError, match=r"c\.txt is no file of this folder"):
        Chart.load(folder)
    (folder / "c.txt").unlink()
    (folder / "d").symlink_to(tmp_path)
    with pytest.raises(ConfigurationError, match="a link to a folder"):
        Chart.load(folder)


def test_a_file_of_a_folder_may_not_be_too_large_nor_oddly_named(tmp_path: Path):
    write(tmp_path, {"Chart.yaml": CHART.decode()})
    (tmp_path / "big").write_bytes(b"\0" * (6 * 1024**2))
    with pytest.raises(ConfigurationError, match="larger than helm takes"):
        Chart.load(tmp_path)
    (tmp_path / "big").unlink()
    (tmp_path / "a\nb").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be in a chart"):
        Chart.load(tmp_path)


def test_the_config_of_the_oci_chart_is_chart_yaml_as_json(tmp_path: Path):
    assert (
        Chart.load(umbrella(tmp_path)).config_json().startswith(b'{"annotations":{"a":"b"},"apiVersion":"v2","appVersion":"2"')
    )


@pytest.mark.helm
def test_computed_values_are_helms_own(tmp_path: Path):
    chart = Chart.load(umbrella(tmp_path))
    values = chart.computed_values(Helm.at(_helm()), [{"worker": {"install": True, "image": {"tag": "9"}}}])
    assert values["web"]["image"] == {"repository": "web", "tag": "1"}
    assert values["worker"]["image"] == {"repository": "web", "tag": "9"}
    assert values["worker"]["global"] == {"x": 1}
    assert "keeper" not in values["store"]


@pytest.mark.helm
def test_computed_values_come_out_even_if_no_template_renders(tmp_path: Path):
    folder = umbrella(tmp_path)
    write(folder, {"templates/y.yaml": "{{ fail `no` }}", "values.schema.json": '{"required": ["nothing"]}'})
    assert Chart.load(folder).computed_values(Helm.at(_helm()))["web"]["install"] is True


PLAIN = "a: {b: 1, c: [x, yes]}\nd: ''\ne: {f: {}}\n"


@pytest.mark.helm
@pytest.mark.parametrize(
    ("defaults", "over"),
    [
        (PLAIN, {}),
        (PLAIN, {"a": {"b": "2", "n": 2**53}, "e": {"f": {"g": False}}, "z": []}),
        (PLAIN, {"a": {"c": None}, "d": None, "e": None}),
        ("a: null\nb: {c: null, d: 1}\n", {"b": {"e": 1}}),
        ("a: 1.0\nb: 12345678901234567890\nc: 1e3\n", {"d": 1.5}),
        ("", {"a": 1}),
    ],
)
def test_the_values_of_a_chart_that_stands_alone_are_helms_own_too(tmp_path: Path, defaults: str, over: dict[str, Any]):
    template = "values: {{ .Values | toJson | quote }}\n"
    write(tmp_path / "one", {"Chart.yaml": CHART.decode(), "values.yaml": defaults, "templates/x.yaml": template})
    helm, chart = Helm.at(_helm()), Chart.load(tmp_path / "one")
    text = helm.template(tmp_path / "one", release="airgap", namespace="default", values=[over])
    document: Any = load_yaml(text, "helm")
    told = json.loads(document["values"])
    assert json.dumps(chart.computed_values(helm, [over]), sort_keys=True) == json.dumps(told, sort_keys=True)


def test_plain_values_of_a_chart_that_stands_alone_need_no_helm(tmp_path: Path):
    write(tmp_path, {"Chart.yaml": CHART.decode(), "values.yaml": PLAIN})
    nobody = Helm(tmp_path / "there is none", "4.0.0")
    assert Chart.load(tmp_path).computed_values(nobody, [{"a": {"b": 2}}])["a"] == {"b": 2, "c": ["x", True]}
    with pytest.raises(ToolError):
        Chart.load(tmp_path).computed_values(nobody, [{"a": None}])


@pytest.mark.helm
def test_a_copy_can_carry_one_template_more_and_leave_others_out(tmp_path: Path):
    chart = Chart.load(umbrella(tmp_path / "chart"))
    helm = Helm.at(_helm())
    folder = chart.with_extra_template(tmp_path / "one", "extra.yaml", "kind: X\n")
    assert "templates/extra.yaml" in helm.template(folder, release="r", namespace="n")
    bare = chart.unpack_to(tmp_path / "two", leave_out=("templates/x.yaml",))
    assert helm.template(bare, release="r", namespace="n").strip() == ""
    written = chart.write(tmp_path)
    assert written.name == "app-1.0.0.tgz"
    assert "app/templates/x.yaml" in helm.template(written, release="r", namespace="n")
    assert chart.digest == Chart.load(written).digest


def _helm() -> Path:
    return Path(find_binary("helm"))
