"""The pickled classes and spaces of a Stable-Baselines3 zip, still pickled, and what they would run."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gradscope.read.file_bytes import Malformed, reading, section_of
from gradscope.read.numpy_pickle import NUMPY_TABLE
from gradscope.read.pickle_stubs import Global, Stub, is_text_keyed
from gradscope.read.safe_pickle import unpickled
from gradscope.read.sb3_zip import MAX_JSON_BYTES
from gradscope.read.zip_members import wanted, zip_members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from gradscope.read.zip_members import Member

ENTRIES: Final = ("observation_space", "action_space", "policy_class", "policy_kwargs")
"""What a policy is made from."""
CARRIED: Final = "carried by the file itself"
_CLOUDPICKLE: Final = ("cloudpickle.cloudpickle", "cloudpickle.cloudpickle_fast", "cloudpickle")
_CLASSES: Final = re.compile(
    r"(torch\.(nn|optim)|stable_baselines3|sb3_contrib|gymnasium\.spaces|gym\.spaces|collections|typing|abc"
    r"|enum|dataclasses)(\.\w+)*:_*[A-Z]\w*"
)
"""Classes of the libraries, as module:name. A dotted name could reach what a module imports itself."""
_NAMES: Final = re.compile(
    r"numpy(\.\w+)*:(dtype|ndarray|_frombuffer|_reconstruct|scalar|_*(bit_)?generator_ctor"
    r"|__pyx_unpickle_SeedSequence|PCG64|MT19937|Generator|SeedSequence|bool_?|(u?int|float|complex)\d+)"
    r"|torch:(device|Size|strided|(b?float|u?int|complex)\d+|bool|half|double|long)"
    r"|cloudpickle(\.\w+)?:(_\w+|subimport|dynamic_subimport)|functools:partial|copyreg:_?\w+"
    r"|(builtins|__builtin__):(type|object|bool|int|float|complex|str|bytes|bytearray|list|tuple|dict|set"
    r"|frozenset|slice|range|property|staticmethod|classmethod|super|NotImplementedError|Ellipsis)"
)
"""Further names that honest pickles of policies and spaces refer to, and that run nothing of the user's."""
_MODULES: Final = {"torch", "numpy", "math", "gymnasium", "stable_baselines3", "sb3_contrib", "functools"}
"""That carried functions may use without being told."""
_SYSTEM: Final = "system_info.txt"
_MAX_SYSTEM: Final = 1 << 16
_PYTHON: Final = re.compile(r"^- Python: (\d{1,2})\.(\d{1,3})\b", re.MULTILINE)
_SHOWN_NAME: Final = 200
_KEPT_NAME: Final = 1_000
MAX_CARRIED: Final = 1_000
"""Every function is compared with every class. A policy defined in a notebook carries some tens."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sb3Blobs:
    """What makes a policy, by ENTRIES; nothing of it has been run."""

    source: Path
    pickles: Mapping[str, bytes]
    """As cloudpickle wrote them."""
    plain: Mapping[str, object]
    """Entries that are plain JSON."""
    imports: tuple[str, ...]
    """Modules and classes beyond the libraries' own that unpickling them would import or run."""
    python: tuple[int, int] | None = None
    """Of the training, as system_info.txt says; code that the file carries is its bytecode."""

    @property
    def carries_code(self) -> bool:
        """Whether the pickles hold functions or classes themselves."""
        return any(CARRIED in name for name in self.imports)


def sb3_blobs(path: Path) -> Sb3Blobs:
    """Find the pickles of an SB3 zip and list, statically, what they name.

    Raises:
        UnreadableFile: damaged, or no SB3 zip.
    """
    with reading(path):
        members = zip_members(section_of(path))
        data = json.loads(wanted(members, "data").content(MAX_JSON_BYTES))
        if not is_text_keyed(data):
            raise Malformed("has settings that are no JSON object")
        there: dict[str, object] = {name: data[name] for name in ENTRIES if name in data}
        found = {name: _pickle(each) for name, each in there.items()}
        pickles = {name: each for name, each in found.items() if each is not None}
        return Sb3Blobs(
            source=path,
            pickles=pickles,
            plain={name: each for name, each in there.items() if name not in pickles},
            imports=_named(pickles.values()),
            python=_python(members),
        )


def _python(members: Mapping[str, Member]) -> tuple[int, int] | None:
    if _SYSTEM not in members:
        return None
    told = _PYTHON.search(members[_SYSTEM].content(_MAX_SYSTEM).decode("utf-8", "replace"))
    return (int(told[1]), int(told[2])) if told else None


def _pickle(entry: object) -> bytes | None:
    """None for an entry that is plain JSON."""
    encoded = entry.get(":serialized:") if is_text_keyed(entry) else None
    if not isinstance(encoded, str):
        return None
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed("has an entry that is no base64") from error


def _named(pickles: Iterable[bytes]) -> tuple[str, ...]:
    """Names by reference, modules that carried functions use, classes and functions carried by value."""
    found = _Found()
    for content in pickles:
        names = unpickled(content, {**NUMPY_TABLE, **found.table()}).parts
        found.references.extend(f"{module}.{name}" for module, name in names if _is_told(module, name))
    classes = list(dict.fromkeys(found.classes))
    inside = [f".{name}." for name in classes]
    functions = [
        name for name in dict.fromkeys(found.functions) if not any(each in f".{name}" for each in inside)
    ]
    nameless = ["a function"] if len(found.made) > len(found.functions) else []
    carried = [f"{name} ({CARRIED})" for name in (*classes, *functions, *nameless)]
    references = dict.fromkeys(
        [*found.references, *(each for each in found.modules if _is_module_told(each))]
    )
    return tuple(_shown(name) for name in (*references, *carried))


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Fills while a pickle is looked through."""

    classes: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    """Of those made, the ones that were given a state."""
    modules: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)

    def table(self) -> Mapping[tuple[str, str], Callable[[Sequence[object]], object]]:
        """Answers to cloudpickle's own calls: stubs, with a note of what they would make."""
        noted = {
            "_make_skeleton_class": lambda given: self._note(self.classes, given, 1),
            "_make_skeleton_enum": lambda given: self._note(self.classes, given, 1),
            "_make_function": lambda given: self._note(self.made, given, 2),
            "_function_setstate": self._function,
            "subimport": lambda given: self._note(self.modules, given, 0),
            "dynamic_subimport": lambda given: self._note(self.classes, given, 0),
        }
        return {(module, name): answer for module in _CLOUDPICKLE for name, answer in noted.items()}

    def _note(self, names: list[str], given: Sequence[object], place: int) -> Stub:
        name = given[place] if len(given) > place else None
        _keep(names, name if isinstance(name, str) else "something without a name")
        return Stub(Global("cloudpickle", "made"), given)

    def _function(self, given: Sequence[object]) -> object:
        """A function that gets its state: (attributes, slots)."""
        state = given[1] if len(given) > 1 else None
        slots = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        name = slots.get("__qualname__") if is_text_keyed(slots) else None
        _keep(self.functions, name if isinstance(name, str) else "a function")
        return Stub(Global("cloudpickle", "function"), given)


def _keep(names: list[str], name: str) -> None:
    if len(names) >= MAX_CARRIED:
        raise Malformed(f"carries more than {MAX_CARRIED} classes or functions")
    names.append(name[:_KEPT_NAME].replace("<locals>.", ""))


def _is_told(module: str, name: str) -> bool:
    shown = f"{module}:{name}"
    return not _CLASSES.fullmatch(shown) and not _NAMES.fullmatch(shown)


def _is_module_told(name: str) -> bool:
    return name.partition(".")[0] not in _MODULES


def _shown(name: str) -> str:
    return "".join(each if each.isprintable() else "�" for each in name[:_SHOWN_NAME])
