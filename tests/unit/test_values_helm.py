"""The real helm says what a scalar is, what two values files make, and that it reads what is written here."""

import base64
import json
import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from airgap.errors import ConfigurationError
from airgap.values import coalesce, dump_yaml, load_yaml
from tests.unit.test_values import TREES

pytestmark = pytest.mark.helm

WORDS = """
yes no on off Yes NO On OFF y n Y N true True TRUE tRue false null Null NULL ~ nULL 0o7 0o17 0777 0778 08 1_000 1_0.5 _1
1__0 0x1F 0X1f -0x1f +0x1F 0b11 0B11 -0b1 0b12 12e3 1e3 1E3 1e+3 1.e3 1.5e3 .5 -.5 +.5 5. 1. . .. +1 -1 -0 +12 .inf
-.inf +.Inf .INF .iNF .nan .NaN +.nan inf nan Infinity 2001-12-14 2001-12-14t21:59:43.10-05:00 12:30 12:30:45 190:20:30
1.2.3 0.0 00 0 01 007 12345678901 9223372036854775807 9223372036854775808 -9223372036854775808 18446744073709551615
18446744073709551616 123456789012345678901234567890 1e400 0.1 1.0 100.0 1e-7 1e21 1.7976931348623157e308 1e 0x 0b 0o 0o8
-0o7 +0o7 0o1_0 1_e3 0x1_F 0b1_1 -1_0 12e03 1.e+3 e3 1d 0x1.8p3 0xg 1,000 ~~ 685_230.15 190:20:30.15 0.1_0 1._5 10_ 010
0_7 0-1 0.e1 3.14e .e3 +.5e3 -.5e-3 .5e3 0O7 0_0 +0 -0.0 +0777 -0777 -0o17 ._5 _ 1e_3 0x_1 0x1p3 1_.5 .1_0
0x7fffffffffffffff 0x8000000000000000 0xffffffffffffffffff 000 0o_7 ++1 +-1 1-
"""

CHART = {
    "Chart.yaml": "apiVersion: v2\nname: probe\nversion: 0.1.0\n",
    "values.yaml": "kept: 1\ndeleted: {a: 1}\n",
    "templates/all.yaml": "kind: ConfigMap\ndata: {{ .Values | toJson | b64enc | quote }}\n",
}


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    """Return a function from values files to the values that helm gives to templates, or to helm's refusal."""
    helm = shutil.which("helm") or pytest.skip("helm is not on PATH")
    folder = tmp_path_factory.mktemp("probe")
    for name, text in CHART.items():
        path = folder / "chart" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def ask(*files: str):
        arguments = [helm, "template", "x", str(folder / "chart")]
        for index, text in enumerate(files):
            path = folder / f"{index}.yaml"
            path.write_bytes(text.encode())
            arguments += ["-f", str(path)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stderr
        document: Any = load_yaml(done.stdout.split("yaml\n", 1)[1], "helm")
        return json.loads(base64.b64decode(document["data"]))

    return ask


def as_helm_counts(data):
    """Return the data with numbers as Go's float64 has them."""
    if isinstance(data, dict):
        return {key: as_helm_counts(value) for key, value in data.items()}
    if isinstance(data, list):
        return [as_helm_counts(item) for item in data]
    return float(data) + 0.0 if isinstance(data, (int, float)) and not isinstance(data, bool) else data


def test_scalars_are_what_helm_takes_them_for(probe):
    taken, refused = [], []
    for word in WORDS.split():
        try:
            load_yaml(f"v: {word}", "x")
        except ConfigurationError:
            refused.append(word)
        else:
            taken.append(word)
    text = "v:\n" + "".join(f"- {word}\n" for word in taken)
    helm = as_helm_counts(probe(text)["v"])
    read: Any = load_yaml(text, "x")
    mine = as_helm_counts(read["v"])
    differing = [
        (word, ours, theirs) for word, ours, theirs in zip(taken, mine, helm, strict=True) if repr(ours) != repr(theirs)
    ]
    assert differing == []
    assert refused == [".inf", "-.inf", "+.Inf", ".INF", ".nan", ".NaN"]
    assert "unsupported value" in probe(f"v: {refused[0]}")


@pytest.mark.parametrize(
    "text",
    [
        "d: {b: 2, <<: {b: 1}}",
        "d: {<<: {b: 1}, b: 2}",
        "d: {b: 2, <<: [{b: 1, c: 1}, {c: 2}]}",
        "d: {1: a, yes: b, n: c, 0x10: e, 2001-01-01: f}",
        "d: ! 12",
        "d: !!str 12",
        "d: a\tb \t# c",
        "d: |\n  x\n\n  y\n\ne: >-\n  x\n  y\n",
        "d: [http://x#y, a#b]",
        "d: 1\n  \t\ne: 2\n",
        "d: &x {a: 1}\ne: *x",
    ],
)
def test_structures_are_what_helm_takes_them_for(probe, text):
    helm = probe(text)
    read: Any = load_yaml(text, "x")
    assert as_helm_counts({key: helm[key] for key in read}) == as_helm_counts(read)


FILES = [
    "a: {x: 1, y: [1, 2]}\nb: 1\ndeleted: {b: 2}\n",
    "a: {y: [3], z: null}\nb: {c: 1}\n",
    "a: null\ndeleted: null\n",
    "a: {q: 1}\nb: null\n",
]


@pytest.mark.parametrize(
    "text", ["d: 1\n\t\ne: 2\n", "d:\n\te: 1\n", "d: *x\n", "d: [1\n", "d: a: b\n", "~: 1\n", "<<: 3\n", "d: \x01\n"]
)
def test_what_helm_refuses_is_refused(probe, text):
    assert "failed to parse" in probe(text)
    with pytest.raises(ConfigurationError):
        load_yaml(text, "x")


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 2), (0, 2, 3), (3, 0, 1), (0, 1, 2)])
def test_several_files_are_one(probe, order):
    files = [FILES[index] for index in order]
    read: list[Any] = [load_yaml(text, "x") for text in files]
    together = coalesce(read)
    assert probe(*files) == probe(dump_yaml(together))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TREES)
def test_helm_reads_what_is_written(probe, tree):
    helm = probe(dump_yaml({"v": [tree]}))
    assert as_helm_counts(helm["v"]) == as_helm_counts([tree])
