"""torch tensors in a zip checkpoint's data.pkl, as ranges of its storages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradscope.read.file_bytes import Malformed
from gradscope.read.numpy_pickle import NUMPY_TABLE, checked_shape
from gradscope.read.pickle_stubs import Global, Stub
from gradscope.read.stored_tensor import ITEM_BYTES, StoredTensor, spanned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gradscope.read.zip_members import Member

STORAGE_DTYPES: Final[Mapping[str, str]] = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}
_DTYPE_NAMES: Final = {"half": "float16", "float": "float32", "double": "float64", "long": "int64"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Storage:
    """One storage of the archive, which holds at least ``num_elements``."""

    key: str
    dtype: str
    num_elements: int


@dataclass(frozen=True, kw_only=True, eq=False)
class TorchTable:
    """Answers what a data.pkl asks for; ``folder`` is the archive's root with its slash."""

    members: Mapping[str, Member]
    folder: str
    is_big_endian: bool

    def storage(self, identity: object) -> Storage:
        """The storage a persistent id names: ("storage", type, key, location, number of elements).

        Raises:
            Malformed: it is no storage, missing, or shorter than claimed.
        """
        if not isinstance(identity, tuple) or len(identity) != 5 or identity[0] != "storage":  # noqa: PLR2004
            raise Malformed("refers to objects outside of it")
        _, kind, key, _, count = identity
        dtype = STORAGE_DTYPES.get(kind.name) if isinstance(kind, Global) else None
        if dtype is None:
            raise Malformed(f"has a storage of unknown type {kind if isinstance(kind, Global) else ''}")
        if not isinstance(key, str) or type(count) is not int or count < 0:
            raise Malformed("has a storage without name or size")
        member = self.members.get(f"{self.folder}data/{key}")
        if member is None:
            raise Malformed(f"lacks storage {key[:80]!r}, or it is compressed")
        if count * ITEM_BYTES[dtype] > member.size:
            raise Malformed(f"has a storage {key[:80]!r} of {member.size} bytes that claims {count} elements")
        return Storage(key=key, dtype=dtype, num_elements=count)

    def calls(self) -> Mapping[tuple[str, str], Callable[[Sequence[object]], object]]:
        """Calls that rebuild tensors and arrays."""
        utils = "torch._utils"
        return {
            **NUMPY_TABLE,
            (utils, "_rebuild_tensor_v2"): lambda given: self._tensor(given, None, given[6:7]),
            (utils, "_rebuild_tensor_v3"): lambda given: self._tensor(given, given[6], given[7:8]),
            (utils, "_rebuild_parameter"): _first,
            (utils, "_rebuild_parameter_with_state"): _first,
            ("torch._tensor", "_rebuild_from_type_v2"): self._of_type,
            ("torch", "Size"): _first,
        }

    def _tensor(self, given: Sequence[object], dtype: object, marks: Sequence[object]) -> StoredTensor:
        storage, offset, shape, strides = given[:4]
        if not isinstance(storage, Storage) or type(offset) is not int or offset < 0:
            raise Malformed("has a tensor without a storage")
        sizes, steps = checked_shape(shape), checked_shape(strides)
        name = storage.dtype if dtype is None else _dtype_name(dtype)
        there = storage.num_elements * ITEM_BYTES[storage.dtype] // ITEM_BYTES[name]
        if len(sizes) != len(steps) or (0 not in sizes and offset + spanned(sizes, steps) > there):
            raise Malformed(f"has a tensor of shape {sizes} that leaves its storage of {there} elements")
        mark = marks[0] if marks and isinstance(marks[0], dict) else {}
        member = self.members[f"{self.folder}data/{storage.key}"]
        return StoredTensor(
            path=member.archive.path,
            bytes=member,
            key=storage.key,
            dtype=name,
            shape=sizes,
            offset=offset,
            strides=steps,
            is_big_endian=self.is_big_endian,
            is_conjugated=mark.get("conj") is True,
            is_negated=mark.get("neg") is True,
        )

    def _of_type(self, given: Sequence[object]) -> object:
        """A tensor of a subclass: the function that makes it, the class, its arguments, its state."""
        function, _, arguments, *_ = given
        table = self.calls()
        answer = table.get((function.module, function.name)) if isinstance(function, Global) else None
        if answer is None or not isinstance(arguments, tuple):
            return Stub(function, arguments)
        return answer(arguments)


def _first(given: Sequence[object]) -> object:
    return given[0]


def _dtype_name(dtype: object) -> str:
    name = dtype.name if isinstance(dtype, Global) and dtype.module == "torch" else ""
    name = _DTYPE_NAMES.get(name, name)
    if name not in ITEM_BYTES:
        raise Malformed("has a tensor of an unknown dtype")
    return name
