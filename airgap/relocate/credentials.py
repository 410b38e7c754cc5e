"""Secrets apart from everything else: what the user's values hold in clear goes into Secrets, where the chart can take one.

The table below says which value of operator-wandb holds a secret and which value names a Secret instead (wandb-v1.md section
6). It is a proposal only: a move is kept when a render proves that every pod gets the same bytes under the same variable from
the new Secret, and that nothing else changed. Otherwise the value is left where it is, and that is said.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError
from airgap.relocate.probe import apply
from airgap.tools import RenderError
from airgap.values import coalesce, format_path, get, leaves, without

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airgap.relocate.probe import Values
    from airgap.relocate.rendering import Place, Renderer, Rendering
    from airgap.values import Json, ValuePath


@dataclass(frozen=True)
class Item:
    """A value in clear, the value that says under which key the Secret has it, and the key if that says nothing."""

    clear: ValuePath
    key: ValuePath
    default: str


@dataclass(frozen=True)
class Move:
    """A Secret that can stand for values in clear: ``name`` is the value that names it.

    Without ``name`` the clear value itself becomes ``{valueFrom: {secretKeyRef: ...}}``. ``companions`` are keys that the
    chart's own Secret has too, with the value that fills them; such a value stays where it is.
    """

    suffix: str
    items: tuple[Item, ...]
    name: ValuePath = ()
    companions: tuple[tuple[str, ValuePath], ...] = ()


def _path(text: str) -> ValuePath:
    return tuple(text.split("."))


def _move(suffix: str, name: str, *items: tuple[str, str, str]) -> Move:
    return Move(suffix, tuple(Item(_path(clear), _path(key), default) for clear, key, default in items), _path(name))


MOVES: tuple[Move, ...] = (
    _move("license", "global.licenseSecret.name", ("global.license", "global.licenseSecret.key", "license")),
    _move(
        "mysql",
        "global.mysql.passwordSecret.name",
        ("global.mysql.password", "global.mysql.passwordSecret.passwordKey", "MYSQL_PASSWORD"),
    ),
    replace(
        _move(
            "redis",
            "global.redis.secret.secretName",
            ("global.redis.password", "global.redis.secret.secretKey", "REDIS_PASSWORD"),
        ),
        companions=(("REDIS_CA_CERT", _path("global.redis.caCert")),),
    ),
    _move(
        "bucket",
        "global.bucket.secret.secretName",
        ("global.bucket.accessKey", "global.bucket.secret.accessKeyName", "ACCESS_KEY"),
        ("global.bucket.secretKey", "global.bucket.secret.secretKeyName", "SECRET_KEY"),
    ),
    _move(
        "clickhouse",
        "global.clickhouse.passwordSecret.name",
        ("global.clickhouse.password", "global.clickhouse.passwordSecret.passwordKey", "CLICKHOUSE_PASSWORD"),
    ),
    _move(
        "oidc",
        "global.auth.oidc.oidcSecret.name",
        ("global.auth.oidc.secret", "global.auth.oidc.oidcSecret.secretKey", "OIDC_SECRET"),
    ),
    Move("smtp", (Item(_path("global.email.smtp.password"), (), "SMTP_PASSWORD"),)),
)

_SECRET_KEY = re.compile(
    r"(?i:(?:.*_)?(?:password|passwd|token|secret|secretkey|accesskey|api_?key|private_?key|license))"
    r"|.*(?:Password|Token|SecretKey|AccessKey|ApiKey|PrivateKey|clientSecret)"
)
"""Keys of values that are secrets; not ``...Secret``, which mostly names one."""
_REFERENCE = re.compile(r"(?i).*secret(?:keyref|ref)?|existingsecret.*")


@dataclass(frozen=True)
class Separated:
    """Values without what went into Secrets.

    ``secrets``: name suffix to key to text; ``moved``: (old path, Secret); ``left``: sentences on what stays in clear.
    """

    values: Values
    secrets: Mapping[str, Mapping[str, str]]
    moved: tuple[tuple[str, str], ...]
    left: tuple[str, ...]


def separate(
    renderer: Renderer, values: Values, prefix: str, *, extra: Values, computed: Values, noise: frozenset[Place]
) -> Separated:
    """Move what ``values`` hold in clear into Secrets named ``prefix-suffix``, as far as renders prove it equal.

    ``extra`` is laid under the values when rendering (what the operator adds by itself); ``computed`` are the values as
    templates see them; ``noise`` are places that differ between any two renders.
    """
    possible = [move for move in MOVES if any(_clear(values, item) for item in move.items)]
    kept: list[Move] = []
    left: list[str] = []
    if possible:
        before = renderer.render(coalesce([extra, values]))
        kept, left = _provable(_Trial(renderer, values, computed, prefix, extra, before, noise), possible)
    final = _with(values, computed, kept, prefix)
    told = {format_path(item.clear) for move in possible for item in move.items}
    left += [
        f"{path} looks like a secret and stays in clear in wandb.yaml: airgap knows no Secret that the chart takes for it"
        for path in suspects(final)
        if path not in told
    ]
    moved = [
        (format_path(item.clear), f"{prefix}-{move.suffix}") for move in kept for item in move.items if _clear(values, item)
    ]
    return Separated(final, {move.suffix: _data(values, computed, move) for move in kept}, tuple(moved), tuple(left))


def _provable(trial: _Trial, possible: list[Move]) -> tuple[list[Move], list[str]]:
    """Return the moves that a render proves equal, all at once if it can be, and a sentence for each of the others."""
    if not trial.fault(possible):
        return possible, []
    kept: list[Move] = []
    left: list[str] = []
    for move in possible:
        fault = trial.fault([*kept, move])
        if fault:
            names = ", ".join(format_path(item.clear) for item in move.items if _clear(trial.values, item))
            left.append(f"{names} stays in clear in wandb.yaml: with a Secret instead, {fault}")
        else:
            kept.append(move)
    return kept, left


@dataclass(frozen=True)
class _Trial:
    renderer: Renderer
    values: Values
    computed: Values
    prefix: str
    extra: Values
    before: Rendering
    noise: frozenset[Place]

    def fault(self, moves: Sequence[Move]) -> str:
        """Return what would be wrong if these moves were made, or nothing."""
        try:
            after = self.renderer.render(coalesce([self.extra, _with(self.values, self.computed, moves, self.prefix)]))
        except (RenderError, ConfigurationError) as error:
            return error.message
        own = {f"{self.prefix}-{move.suffix}": _data(self.values, self.computed, move) for move in moves}
        for change in self.before.differences(after):
            is_reference = _is_reference(change.path)
            if (
                change.document.kind == "Secret"
                or change.metadata == "annotations"
                or change.place in self.noise
                or is_reference
            ):
                continue
            return f"{change.document.label} {format_path(change.path)} would change too"
        old, new = dict(_references(self.before)), dict(_references(after))
        for place in sorted({*old, *new}, key=str):
            was, now = _held(old.get(place), self.before, {}), _held(new.get(place), after, own)
            if old.get(place) != new.get(place) and (was is None or was != now):
                return f"{place[0][0]} {format_path(place[1])} would not get the same bytes"
        return ""


def _clear(values: Values, item: Item) -> str:
    value = get(values, item.clear)
    return value if isinstance(value, str) else ""


def _key(computed: Values, item: Item) -> str:
    value = get(computed, item.key) if item.key else ""
    return value if isinstance(value, str) and value else item.default


def _data(values: Values, computed: Values, move: Move) -> dict[str, str]:
    beside = {key: str(get(values, path) or "") for key, path in move.companions}
    return beside | {_key(computed, item): _clear(values, item) for item in move.items if _clear(values, item)}


def _with(values: Values, computed: Values, moves: Sequence[Move], prefix: str) -> Values:
    settings: dict[ValuePath, Json] = {}
    for move in moves:
        name = f"{prefix}-{move.suffix}"
        if move.name:
            settings[move.name] = name
        for item in move.items:
            if not _clear(values, item):
                continue
            cleared = without(values, item.clear)
            values = cleared if isinstance(cleared, dict) else values
            key = _key(computed, item)
            if move.name:
                settings[item.key] = key
            else:
                settings[item.clear] = {"valueFrom": {"secretKeyRef": {"name": name, "key": key}}}
    return apply(values, computed, settings)


def _is_reference(path: ValuePath) -> bool:
    return path[-2:] in (("secretKeyRef", "name"), ("secretKeyRef", "key"), ("secretRef", "name"), ("secret", "secretName"))


def _references(rendering: Rendering) -> Iterator[tuple[Place, tuple[str, str]]]:
    """Yield every use of a Secret in a rendering: its place, the Secret's name and the key (empty: all keys)."""
    for key, found in rendering.leaves.items():
        for path, name in found.items():
            if path[-1] in ("name", "secretName") and _is_reference(path):
                wanted = found.get((*path[:-1], "key")) if path[-2] == "secretKeyRef" else ""
                yield (key, path[:-1]), (str(name), str(wanted or ""))


def _held(used: tuple[str, str] | None, rendering: Rendering, own: Mapping[str, Mapping[str, str]]) -> object:
    """Return the bytes that a use of a Secret gets: one text, all keys' texts, or None if that is not known."""
    if used is None:
        return None
    name, key = used
    data = own[name] if name in own else _secret(rendering, name)
    return (data.get(key) if key else data) if data is not None else None


def _secret(rendering: Rendering, name: str) -> dict[str, str] | None:
    for document in rendering.documents:
        if document.kind == "Secret" and document.name == name:
            data, text = document.object.get("data"), document.object.get("stringData")
            decoded = {key: _decoded(str(value or "")) for key, value in data.items()} if isinstance(data, dict) else {}
            return decoded | ({key: str(value) for key, value in text.items()} if isinstance(text, dict) else {})
    return None


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode("utf-8", "replace")
    except binascii.Error:
        return text


def suspects(values: Values) -> Iterator[str]:
    """Yield the paths of values that look like secrets in clear: by key, and not a name in a reference to a Secret."""
    for path, value in leaves(values):
        keys = [str(step) for step in path if isinstance(step, str)]
        is_secret = isinstance(value, str) and value and keys and _SECRET_KEY.fullmatch(keys[-1])
        if is_secret and not any(_REFERENCE.fullmatch(key) for key in keys[:-1]):
            yield format_path(path)
