"""An optimizer's whole state as a checkpoint holds it: what training on with a model of the user's needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gradscope.read import sniff
from gradscope.read.file_bytes import head_of, reading, section_of
from gradscope.read.optimizer_state import AMBIGUOUS, NO_OPTIMIZER, NOT_MATCHED, proved_order
from gradscope.read.pickle_stubs import is_text_keyed
from gradscope.read.stored_tensor import StoredTensor
from gradscope.read.torch_archive import plain_number, torch_archive
from gradscope.read.torch_content import content_of
from gradscope.read.torch_legacy import legacy_archive
from gradscope.read.zip_members import zip_members

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Entries = Mapping[str, NDArray[Any] | float]

BESIDE: Final = ("optimizer.pt", "optimizer.bin")
"""Where Hugging Face's Trainer and Accelerate write it, in the checkpoint's folder."""
SEVERAL: Final = "the file holds {} optimizers, and the --model function gives one loss"
SAVE_IT: Final = (
    "save it with the model: torch.save({'model': model.state_dict(), 'optimizer': optimizer.state_dict(), "
    "'step': step}, path)"
)
_SB3_OPTIMIZER: Final = "optimizer.pth"
_SB3_OTHER: Final = "ent_coef"
"""Of the entropy coefficient, which no loss of the user's moves."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shape:
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class SavedOptimizer:
    """As ``optimizer.state_dict()`` gave it."""

    groups: tuple[Mapping[str, object], ...]
    """Settings, ``params`` (numbers) among them."""
    state: Mapping[object, Entries]
    """step, exp_avg, ... by number of the parameter."""
    _saved: object

    def names(self, orders: Sequence[Mapping[str, tuple[int, ...]]]) -> tuple[str, ...] | str:
        """Parameters in the order of their numbers; or why that is not known.

        Args:
            orders: shapes by name, in orders that the optimizer may have been given its parameters in.
        """
        shapes = [{name: _Shape(shape=each) for name, each in order.items()} for order in orders]
        found = proved_order(self._saved, shapes, is_plain=True)
        if isinstance(found, str):
            return found
        # Without any state and in one group no parameter differs from another.
        is_told = not found.loose or (len(self.groups) == 1 and not any(self.state.values()))
        return found.names if is_told else AMBIGUOUS


def saved_optimizer(path: Path) -> SavedOptimizer | str:
    """The one optimizer of a checkpoint; or why there is none.

    Raises:
        UnreadableFile: damaged, or changed since it was opened.
    """
    with reading(path):
        found = None if path.is_dir() else _of_file(path)
    if found is None:
        found = _beside(path)
    if isinstance(found, list):
        return SEVERAL.format(len(found))
    return f"{NO_OPTIMIZER}; {SAVE_IT}" if found is None else _optimizer(found)


def _of_file(path: Path) -> object:
    kind = sniff.format_of(head_of(path))
    if kind == sniff.SB3:
        return _of_sb3(path)
    if kind not in {sniff.TORCH, sniff.TORCH_LEGACY}:
        return None
    archive = (torch_archive if kind == sniff.TORCH else legacy_archive)(section_of(path))
    found = list(content_of(archive).optimizers.values())
    return found[0] if len(found) == 1 else found or None


def _of_sb3(path: Path) -> object:
    members = zip_members(section_of(path))
    own = [each for each in members if each.endswith(_SB3_OPTIMIZER) and not each.startswith(_SB3_OTHER)]
    found = [torch_archive(members[name].section()).value for name in own]
    return found[0] if len(found) == 1 else found or None


def _beside(path: Path) -> object:
    for name in BESIDE:
        other = path / name if path.is_dir() else path.with_name(name)
        if other.is_file():
            with reading(other):
                if sniff.format_of(head_of(other)) == sniff.TORCH:
                    return torch_archive(section_of(other)).value
    return None


def _optimizer(saved: object) -> SavedOptimizer | str:
    groups = saved.get("param_groups") if is_text_keyed(saved) else None
    state = saved.get("state") if is_text_keyed(saved) else None
    if not isinstance(groups, list) or not isinstance(state, dict) or not all(map(is_text_keyed, groups)):
        return NOT_MATCHED
    return SavedOptimizer(
        groups=tuple({key: plain_number(each) for key, each in group.items()} for group in groups),
        state={number: _entries(each) for number, each in state.items() if is_text_keyed(each)},
        _saved=saved,
    )


def _entries(state: Mapping[str, object]) -> Entries:
    """Tensors read now, numbers as they are; what is neither is left out."""
    found: dict[str, Any] = {}
    for name, each in state.items():
        if isinstance(each, StoredTensor):
            if each.is_bounded:
                found[name] = each.array()
        elif isinstance(each, (int, float)):
            found[name] = each
    return found
