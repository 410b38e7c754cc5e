"""Values: YAML as Helm reads it, value paths, and the merges of Helm and of the W&B operator.

Invariants: everything here is pure; no function changes its arguments. What ``load_yaml`` returns is a tree without aliases,
and ``dump_yaml`` writes text that ``load_yaml`` and Helm read back as the same tree.

>>> load_yaml("a: yes", "x.yaml")
{'a': True}
>>> format_path(("a", "b.c", 0))
'a."b.c"[0]'
>>> operator_merge([Layer("cr", {"a": [1]}), Layer("channel", {"a": [2]})]).values
{'a': [1, 2]}
"""

from airgap.values.merging import Layer, Merged, coalesce, operator_merge
from airgap.values.paths import Json, ValuePath, format_path, get, leaves, parse_path, with_value, without
from airgap.values.reading import load_yaml, load_yaml_all, plain_scalar
from airgap.values.writing import dump_yaml

__all__ = [
    "Json",
    "Layer",
    "Merged",
    "ValuePath",
    "coalesce",
    "dump_yaml",
    "format_path",
    "get",
    "leaves",
    "load_yaml",
    "load_yaml_all",
    "operator_merge",
    "parse_path",
    "plain_scalar",
    "with_value",
    "without",
]
