"""Inert stand-ins for what a pickle names: nothing here imports or calls anything by name."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from gradscope.read.file_bytes import Malformed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MAX_SOURCES: Final = 100
"""Stubs made by stubs; without end, a name asked of many values would take for ever."""


MAX_NUMBER: Final = 1 << 31
"""Of keys that number something."""


class Global:
    """A name a pickle refers to. It is never looked up."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name

    def __str__(self) -> str:
        """Dotted name on one line, cut where it is absurd."""
        shown = f"{self.module[:100]}.{self.name[:100]}"
        return (
            shown
            if shown.isprintable()
            else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown)
        )


class Stub:
    """What calling or instantiating a Global would have made; it only keeps what it was given."""

    __slots__ = ("arguments", "entries", "items", "source", "state")

    def __init__(self, source: object, arguments: object) -> None:
        self.source = source
        self.arguments = arguments
        self.state: object = None
        self.items: list[object] = []
        self.entries: dict[object, object] = {}

    def __str__(self) -> str:
        """Name of what it stands for."""
        return str(self.source) if isinstance(self.source, Global) else "an unknown object"

    def build(self, state: object) -> None:
        """Keep the state that an object would have been given."""
        self.state = state


class Entries(dict[Any, Any]):
    """A dict of a pickle that knows whether its keys are texts: a file may refer to one a million times."""

    is_text = True
    num_batch_dims: int | None = None
    """Of a TensorDict's entries: axes that all of them begin with."""


Entries.__name__ = "dict"  # what messages call it


class Buildable:
    """An object of ours that takes part of its content from a BUILD opcode."""

    __slots__ = ()

    @property
    def num_bytes(self) -> int:
        """Bytes of the file that it stands for."""
        return 0

    def build(self, state: object) -> None:
        """Take the state."""
        raise AssertionError(state)


def attributes(value: object) -> dict[str, object]:
    """Attributes of a stubbed object; empty for anything else."""
    state = value.state if isinstance(value, Stub) else None
    if isinstance(state, tuple) and len(state) == 2:  # noqa: PLR2004  (__dict__, __slots__)
        state = state[0] if state[0] is not None else state[1]
    return state if is_text_keyed(state) else {}


def is_text_keyed(value: object) -> TypeGuard[dict[str, object]]:
    """Whether a value is a dict with text keys only."""
    if isinstance(value, Entries):
        return value.is_text
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def named_entries(value: object) -> Mapping[str, object]:
    """A dict's entries by text: whole numbers are written out, other keys left out; empty for anything else.

    Agents are often numbered: {0: actor, 1: critic}. A text comes before the number of the same text.
    """
    if is_text_keyed(value):
        return value
    if not isinstance(value, dict):
        return {}
    numbered = {str(key): each for key, each in value.items() if type(key) is int and abs(key) < MAX_NUMBER}
    return numbered | {key: each for key, each in value.items() if isinstance(key, str)}


def _ordered_dict(arguments: Sequence[object]) -> object:
    # Items come through SETITEMS; given here they could be copied without end.
    return Entries() if not arguments else Stub(Global("collections", "OrderedDict"), arguments)


def _default_dict(_: Sequence[object]) -> object:
    return Entries()


def _deque(arguments: Sequence[object]) -> object:
    if arguments and arguments[0] not in ((), []):
        return Stub(Global("collections", "deque"), arguments)
    most = arguments[1] if len(arguments) > 1 else None
    return deque(maxlen=most if type(most) is int and 0 < most < 1 << 62 else None)


def _no_bytes(arguments: Sequence[object]) -> object:
    """How protocols below 3 write empty bytes."""
    return b"" if not arguments else Stub(Global("builtins", "bytes"), arguments)


def _encoded(arguments: Sequence[object]) -> bytes:
    """How bytes look in protocols below 3."""
    text, encoding = arguments
    if not isinstance(text, str) or encoding not in {"latin1", "latin-1"}:
        raise Malformed("encodes text in an unexpected way")
    return text.encode("latin1")


def _new_object(arguments: Sequence[object]) -> object:
    return Stub(arguments[0] if arguments else None, ())


def _member(arguments: Sequence[object]) -> object:
    """How Python 3.11.0 to 3.11.3 write an enumeration's member: a name within a name, never looked up."""
    owner, name = arguments if len(arguments) == 2 else (None, None)  # noqa: PLR2004
    if isinstance(owner, Global) and isinstance(name, str):
        return Global(owner.module, f"{owner.name[:100]}.{name[:100]}")
    return Stub(Global("builtins", "getattr"), arguments)


PLAIN_TABLE: Final[Mapping[tuple[str, str], Callable[[Sequence[object]], object]]] = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("collections", "defaultdict"): _default_dict,
    ("collections", "deque"): _deque,
    ("builtins", "bytes"): _no_bytes,
    ("builtins", "getattr"): _member,
    ("__builtin__", "getattr"): _member,
    ("__builtin__", "bytes"): _no_bytes,
    ("_codecs", "encode"): _encoded,
    ("copyreg", "_reconstructor"): _new_object,
    ("copy_reg", "_reconstructor"): _new_object,
}
"""Calls that are answered with harmless containers of our own choosing."""


def class_name(value: object) -> str | None:
    """Dotted name of a class, or of an object's class; None where a pickle does not name one."""
    for _ in range(MAX_SOURCES):
        if not isinstance(value, Stub):
            break
        value = value.source
    return str(value) if isinstance(value, Global) else None
