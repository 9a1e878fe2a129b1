"""torch.distributed.checkpoint folders: weights, optimizer state and step, however many processes wrote."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from gradscope.read.dcp_metadata import METADATA, dcp_content
from gradscope.read.dcp_optimizer import optimizer_of
from gradscope.read.dcp_tensor import stored
from gradscope.read.file_bytes import Foreign, Malformed, reading
from gradscope.read.folder_files import names_in, part_of, parts_named
from gradscope.read.layers import StoredLayer, inert_note, lazy_layers, lazy_state, parameters
from gradscope.read.optimizer_state import NO_OPTIMIZER, NamedMoments, named_moments
from gradscope.read.pickle_stubs import is_text_keyed
from gradscope.read.sniff_folder import DCP, folder_format
from gradscope.read.step_name import CONTENT_KEYS, known_step
from gradscope.read.torch_archive import TORCH_DETAILS, plain_number, torch_archive
from gradscope.records import Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gradscope.read.dcp_metadata import DcpContent
    from gradscope.read.stored_tensor import StoredTensor

    Tensors = Mapping[str, StoredTensor]

LIGHTNING: Final = "meta.pt"
"""What Lightning keeps beside: everything that is no tensor, the step among it."""
WEIGHT_KEYS: Final = ("model_state_dict", "state_dict", "model", "policy", "net", "weights")
OPTIMIZER_KEYS: Final = ("optimizer_state_dict", "optimizer", "optimizer_states", "optim", "optimizer_0")
NO_GRADIENTS: Final = "a distributed checkpoint holds no gradients; recompute them with --model"
_ABOVE: Final = ("", "app.", "state.")
"""What a state dict may lie under: torch's own tutorial saves {"app": AppState}."""
_DETAILS: Final = re.compile(
    rf"torch\.distributed\.checkpoint\.(metadata|filesystem)\.\w+|pathlib\.\w+|{TORCH_DETAILS.pattern}"
    r"|torch\.distributed\._shard\.sharded_tensor\.metadata\.\w+|torch\.memory_format|torch\.\w+_format"
)


@dataclass(frozen=True, kw_only=True)
class DcpFolder:
    """Reader of torch.distributed.checkpoint folders."""

    format: str = DCP
    is_whole: bool = False

    def accepts(self, path: Path) -> bool:
        """Whether the folder's names are of this format."""
        return folder_format(names_in(path), ()) == self.format

    def parts(self, path: Path) -> tuple[Path, ...]:
        """Files that the checkpoint consists of."""
        names = names_in(path)
        mine = [name for name in names if name in {METADATA, LIGHTNING} or name.endswith(".distcp")]
        return parts_named(path, mine)

    def read(self, path: Path) -> Snapshot:
        """Open a checkpoint; a layer reads its own slices only.

        Raises:
            UnreadableFile: damaged, incomplete, or no weights in it.
        """
        with reading(path):
            if METADATA not in names_in(path):
                raise Malformed(f"lacks {METADATA}", "It is written last: the save was not finished.")
            content = dcp_content(path)
            tensors = {name: stored(each, path) for name, each in content.tensors.items()}
            weights = _weights(tensors)
            moving = parameters(weights)
            if not moving:
                advice = "Scan the folder with the model's weights."
                raise Foreign("holds no weights, at most an optimizer's state", advice)
            known = known_step(path, _step_content(path, content, tensors))
            found = _moments(content, tensors, moving)
            return Snapshot(
                source=path,
                format=self.format,
                step=known.step,
                step_from=known.step_from,
                layers=lazy_layers(_layer(name, each, found) for name, each in moving.items()),
                state=lazy_state(weights),
                reasons=known.reasons,
                notes=known.notes + content.notes + inert_note(content.unknown, _DETAILS),
            )


def _weights(tensors: Tensors) -> Tensors:
    """Tensors of the model, under the names it gives them."""
    for above in _ABOVE:
        for key in WEIGHT_KEYS:
            if found := _under(tensors, f"{above}{key}."):
                return found
    optimizers = tuple(f"{above}{key}." for above in _ABOVE for key in OPTIMIZER_KEYS)
    return {name: each for name, each in tensors.items() if not name.startswith(optimizers)}


def _under(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}


def _moments(content: DcpContent, tensors: Tensors, weights: Tensors) -> NamedMoments:
    for above in _ABOVE:
        for key in OPTIMIZER_KEYS:
            optimizer = optimizer_of(f"{above}{key}.", content, tensors, weights)
            if optimizer is not None:
                return named_moments(optimizer, [weights], is_plain=True)
    return NamedMoments(reason=NO_OPTIMIZER)


def _layer(name: str, weight: StoredTensor, found: NamedMoments) -> StoredLayer:
    layer = StoredLayer(
        name=name, weight=weight, moments=found.states.get(name), reasons={"gradient": NO_GRADIENTS}
    )
    if name in found.states:
        return layer
    return replace(layer, reasons={**layer.reasons, "moments": found.reason_of(name)})


def _step_content(folder: Path, content: DcpContent, tensors: Tensors) -> Mapping[str, object]:
    """What the checkpoint says of its step: an object or a tensor of its own, or Lightning's file."""
    steps: dict[str, object] = {}
    for key in CONTENT_KEYS:
        for above in (*_ABOVE, "trainer.", "train_state."):
            if (name := above + key) in content.objects:
                steps[key] = plain_number(torch_archive(content.objects[name]).value)
            elif name in tensors:
                steps[key] = plain_number(tensors[name])
    if not steps and LIGHTNING in names_in(folder):
        value = torch_archive(part_of(folder, LIGHTNING, "Lightning")).value
        if is_text_keyed(value):
            steps = {key: plain_number(value[key]) for key in CONTENT_KEYS if key in value}
    return steps
