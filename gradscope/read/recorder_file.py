"""What gradscope's recorder writes at each save: gradients, the batch, the clipping."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gradscope.read import checked_json, sniff
from gradscope.read.file_bytes import Malformed, head_or_nothing, reading, section_of
from gradscope.read.numpy_pickle import checked_shape
from gradscope.read.safetensors_file import safetensors_content
from gradscope.read.step_name import known_step
from gradscope.read.stored_tensor import OnDemand, StoredTensor
from gradscope.records import SNAPSHOT_SCHEMA, Clipping, Layer, Origin, Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

GRADIENT: Final = "gradient."
BATCH: Final = "batch.observations"
NO_WEIGHT: Final = "the recorder stores gradients; the checkpoint beside it holds the weights"
NO_GRADIENT: Final = "no gradient reached this parameter"
NO_BASELINE: Final = "the fresh network's first update was not seen"


@dataclass(frozen=True, kw_only=True)
class RecorderFile:
    """Reader of the recorder's snapshots."""

    format: str = sniff.RECORDER

    def accepts(self, path: Path) -> bool:
        """Whether the first bytes are of this format."""
        return sniff.format_of(head_or_nothing(path)) == self.format

    def read(self, path: Path) -> Snapshot:
        """Open a snapshot; no gradient is read before its layer is asked for.

        Raises:
            UnreadableFile: damaged, or of an unknown version.
        """
        with reading(path):
            content = safetensors_content(section_of(path))
            document = _document(content.metadata)
            entries = _entries(document, content.tensors)
            known = known_step(path, {"step": document["step"]} if "step" in document else {})
            optimizers = checked_json.table(document.get("optimizers"))
            missing = checked_json.reasons(document.get("reasons"))
            return Snapshot(
                source=path,
                format=self.format,
                step=known.step,
                step_from=known.step_from,
                layers=OnDemand({each.name: partial(_Entry.layer, each) for each in entries}),
                algorithm=checked_json.text(document.get("algorithm")),
                num_batches=checked_json.count(document.get("num_batches")),
                batch_size=checked_json.count(document.get("batch_size")),
                num_rows=checked_json.count(document.get("num_rows")),
                num_active=checked_json.count(document.get("num_active")),
                clipping=clipping(optimizers),
                observations=_observations(content.tensors),
                observed=checked_json.observed(document),
                reasons={**known.reasons, **missing},
                notes=known.notes + _late_notes(optimizers),
            )


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """One layer of the file."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    gradient: StoredTensor | None
    module: str | None
    baseline: float | None
    reasons: Mapping[str, str]

    def layer(self) -> Layer:
        return Layer(
            name=self.name,
            shape=self.shape,
            dtype=self.dtype,
            gradient=self.gradient.array() if self.gradient else None,
            origin=Origin.STORED if self.gradient else Origin.NONE,
            module=self.module,
            baseline_zero_fraction=self.baseline,
            reasons=self.reasons,
        )


def clipping(optimizers: Mapping[str, object]) -> Clipping:
    """Clipping over all optimizers: the norm of all gradients together, the smallest coefficient.

    Unknown where one optimizer's norm is, or every coefficient is.
    """
    entries = [checked_json.table(each) for each in optimizers.values()]
    norms = [checked_json.number(each.get("norm_before_clip")) for each in entries]
    known_norms = [norm for norm in norms if norm is not None]
    factors = [checked_json.number(each.get("clip_coefficient")) for each in entries]
    known_factors = [factor for factor in factors if factor is not None]
    reasons: dict[str, str] = {}
    for each in reversed(entries):
        reasons |= checked_json.reasons(each.get("reasons"))
    is_complete = bool(norms) and len(known_norms) == len(norms)
    unknown = "the recorder did not say"
    result = Clipping(
        norm_before_clip=math.hypot(*known_norms) if is_complete else None,
        clip_coefficient=min(known_factors, default=None),
    )
    values = {"norm_before_clip": result.norm_before_clip, "clip_coefficient": result.clip_coefficient}
    why = {key: reasons.get(key, unknown) for key, value in values.items() if value is None}
    return Clipping(**values, reasons=why)


def _document(metadata: Mapping[str, str]) -> dict[str, object]:
    try:
        document = checked_json.table(json.loads(metadata.get("gradscope", "")))
    except (ValueError, RecursionError) as error:
        raise Malformed("is a recorder file without its description") from error
    schema = document.get("schema")
    if schema != SNAPSHOT_SCHEMA:
        shown = repr(schema[:80]) if isinstance(schema, str) else "none"
        raise Malformed(f"is a recorder file of schema {shown}, not {SNAPSHOT_SCHEMA!r}", "Update gradscope.")
    return document


def _entries(document: dict[str, object], tensors: Mapping[str, StoredTensor]) -> list[_Entry]:
    listed = document.get("layers")
    described = [checked_json.table(each) for each in listed] if isinstance(listed, list) else []
    missing = checked_json.reasons(document.get("reasons"))
    no_baseline = missing.get("baseline_zero_fraction") or NO_BASELINE
    entries: dict[str, _Entry] = {}
    for each in described:
        name = each.get("name")
        if not isinstance(name, str) or name in entries:
            raise Malformed("describes a layer without a name, or one twice")
        entries[name] = _entry(name, each, tensors.get(GRADIENT + name), no_baseline)
    for key, tensor in tensors.items():
        name = key.removeprefix(GRADIENT)
        if key.startswith(GRADIENT) and name not in entries:
            described_by: dict[str, object] = {"shape": list(tensor.shape), "dtype": tensor.dtype}
            entries[name] = _entry(name, described_by, tensor, no_baseline)
    return list(entries.values())


def _entry(
    name: str, described: dict[str, object], gradient: StoredTensor | None, no_baseline: str
) -> _Entry:
    shape = checked_shape(described.get("shape"))
    if gradient is not None and gradient.shape != shape:
        raise Malformed(f"describes layer {name[:80]!r} as {shape}, its gradient as {gradient.shape}")
    baseline = checked_json.number(described.get("baseline_zero_fraction"))
    reasons = {"weight": NO_WEIGHT}
    if gradient is None:
        reasons["gradient"] = checked_json.text(described.get("reason")) or NO_GRADIENT
    if baseline is None:
        reasons["baseline_zero_fraction"] = no_baseline
    return _Entry(
        name=name,
        shape=shape,
        dtype=checked_json.text(described.get("dtype")) or "unknown",
        gradient=gradient,
        module=checked_json.text(described.get("module")),
        baseline=baseline,
        reasons=reasons,
    )


def _observations(tensors: Mapping[str, StoredTensor]) -> Mapping[str, NDArray[Any]]:
    """The batch by key of the space; a plain space has the key ""."""
    found = {BATCH: "", **{name: name[len(BATCH) + 1 :] for name in tensors if name.startswith(f"{BATCH}.")}}
    return OnDemand(
        {key: partial(StoredTensor.array, tensors[name]) for name, key in found.items() if name in tensors}
    )


def _late_notes(optimizers: Mapping[str, object]) -> tuple[str, ...]:
    """Which gradients belong to weights that had already moved on."""
    notes: list[str] = []
    for name, each in optimizers.items():
        updates = checked_json.count(checked_json.table(each).get("updates_after_save"))
        if updates is not None and updates > 1:
            late = "one update" if updates == 2 else f"{updates - 1} updates"  # noqa: PLR2004 - 1 is at once
            notes.append(f"the gradient of optimizer {name[:80]!r} is of weights {late} after the save")
    return tuple(notes)
