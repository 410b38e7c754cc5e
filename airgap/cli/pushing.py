"""What ``push`` tells of one registry, or of several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airgap.cli.output import table
from airgap.cli.pace import duration
from airgap.cli.progress import human
from airgap.errors import AirgapError, BundleError, NetworkError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airgap.cli.options import Target
    from airgap.progress import Progress
    from airgap.push import PushResult
    from airgap.ref import Location

SEVERAL, SCHEMA_VERSION = "PushReceipts", 1


@dataclass(frozen=True)
class Ending:
    """How the push to one registry ended: with a result, or with an error."""

    location: Location
    result: PushResult | None = None
    error: AirgapError | None = None

    def failure(self) -> dict[str, Any]:
        """Return the error as data."""
        assert self.error  # noqa: S101  # asked of failures only
        told = {"message": self.error.message, "hint": self.error.hint, "exitCode": self.error.exit_code}
        return {"registry": str(self.location), "error": told}


def each(targets: Sequence[Target], work: Callable[[Target], PushResult], progress: Progress) -> tuple[Ending, ...]:
    """Push to one after the other; with several, one that fails does not stop the others, a damaged bundle does."""
    endings = []
    for target in targets:
        try:
            endings.append(Ending(target.location, work(target)))
        except BundleError:
            raise
        except AirgapError as error:
            if len(targets) == 1:
                raise
            progress.warn(f"{target.location}: {error.message}")
            endings.append(Ending(target.location, None, error))
    return tuple(endings)


def refuse_failures(endings: Sequence[Ending]) -> None:
    """Raise NetworkError, for exit code 3, that names every registry that failed."""
    failed = [it for it in endings if it.error]
    if failed:
        hints = "; ".join(dict.fromkeys(it.error.hint for it in failed if it.error and it.error.hint))
        raise NetworkError(
            f"{len(failed)} of {len(endings)} registries did not get everything: "
            + "; ".join(f"{it.location} ({it.error.message})" for it in failed if it.error),
            hint=f"the same command finishes what is left{'; ' if hints else ''}{hints}",
        )


def receipt(endings: Sequence[Ending]) -> dict[str, Any]:
    """Return the receipt of one registry, or one document with those of several."""
    done = [it.result.receipt() for it in endings if it.result]
    if len(endings) == 1:
        return done[0]
    failed = [it.failure() for it in endings if it.error]
    return {"kind": SEVERAL, "schemaVersion": SCHEMA_VERSION, "receipts": done, "failed": failed}


def data(endings: Sequence[Ending]) -> dict[str, Any]:
    """Return what -o json prints: of one registry as it is, of several a list."""
    told = [_data(it.result) if it.result else it.failure() for it in endings]
    return told[0] if len(told) == 1 else {"kind": SEVERAL, "registries": told}


def text(endings: Sequence[Ending]) -> str:
    """Return what people read, registry by registry."""
    return "\n\n".join(_table(it.result) if it.result else f"{it.location}: failed" for it in endings)


def names(endings: Sequence[Ending]) -> list[str]:
    """Return every reference that is there now."""
    return [str(item.reference) for it in endings if it.result for item in it.result.landed]


def _data(result: PushResult) -> dict[str, Any]:
    left = {"blobs": len(result.plan.blobs), "manifests": len(result.plan.manifests), "bytes": result.plan.size}
    return {**result.receipt(), **result.counts(), "dryRun": result.dry_run, "plan": left}


def _table(result: PushResult) -> str:
    rows = [(str(item.reference), item.digest.short, item.note) for item in result.landed]
    if result.dry_run:
        told = (
            f"would send {len(result.plan.blobs) + len(result.plan.manifests)} blobs and manifests, {human(result.plan.size)}"
        )
    else:
        told = _summary(result)
    return f"{table(('REFERENCE', 'DIGEST', 'WHAT HAPPENED'), rows)}\n\n{result.location}: {told}{_rest(result)}"


def _rest(result: PushResult) -> str:
    """Return what a share says of the others."""
    if result.shard.is_whole:
        return ""
    left = (
        f"{len(result.awaiting)} images and charts wait for blobs of other shares" if result.awaiting else "nothing is missing"
    )
    return f"; share {result.shard}: {left}"


def _summary(result: PushResult) -> str:
    """Return what was done in one line: sent, kept, mounted, skipped, retried, time, speed."""
    kept = f", of which the registry kept {human(result.kept_size)} from an earlier run" if result.kept_size else ""
    speed = f", {human(result.sent_size / result.seconds)}/s" if result.sent_size and result.seconds else ""
    return (
        f"sent {result.sent} ({human(result.sent_size + result.kept_size)}{kept}), mounted {result.mounted}, "
        f"already there {result.skipped}, retried {result.retried}, in {duration(result.seconds)}{speed}"
    )
