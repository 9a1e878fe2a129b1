"""torch tensors in a pickle of torch.save, as ranges of its storages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradscope.read.file_bytes import Malformed
from gradscope.read.numpy_pickle import NUMPY_TABLE, checked_shape
from gradscope.read.pickle_stubs import Entries, Global
from gradscope.read.stored_tensor import ITEM_BYTES, AbsentTensor, StoredTensor, spanned
from gradscope.read.torch_dense import densified, dequantised
from gradscope.read.torch_storage import Storage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Call = Callable[[Sequence[object]], object]

_DTYPE_NAMES: Final = {
    "half": "float16",
    "float": "float32",
    "double": "float64",
    "long": "int64",
    "int": "int32",
    "short": "int16",
    "chalf": "complex32",
    "cfloat": "complex64",
    "cdouble": "complex128",
}
_INTEGERS: Final = {"qint8": "int8", "quint8": "uint8", "qint32": "int32"}
"""What quantised elements are stored as."""
_UTILS: Final = "torch._utils"
ON_META: Final = "lies on the meta device: the file holds no data of it"
NOT_INITIALISED: Final = "is a parameter of a lazy module that has seen no input yet"
NESTED: Final = "is a nested tensor, which is not one array"
IN_CODE: Final = "is an object of {}, which only its own code can make"


@dataclass(frozen=True, kw_only=True, eq=False)
class TorchTable:
    """Answers what a pickle of torch.save asks for."""

    is_big_endian: bool = False

    def calls(self) -> Mapping[tuple[str, str], Call]:
        """Calls that rebuild tensors and arrays."""
        return {
            **NUMPY_TABLE,
            (_UTILS, "_rebuild_tensor"): lambda given: self._tensor(given, None, ()),
            (_UTILS, "_rebuild_tensor_v2"): lambda given: self._tensor(given, None, given[6:7]),
            (_UTILS, "_rebuild_tensor_v3"): lambda given: self._tensor(given, given[6], given[7:8]),
            (_UTILS, "_rebuild_qtensor"): lambda given: dequantised(self._tensor(given, None, ()), given[4]),
            (_UTILS, "_rebuild_sparse_tensor"): densified,
            (_UTILS, "_rebuild_nested_tensor"): lambda _: AbsentTensor(reason=NESTED),
            (_UTILS, "_rebuild_meta_tensor_no_storage"): _on_meta,
            (_UTILS, "_rebuild_wrapper_subclass"): _wrapper,
            (_UTILS, "_rebuild_device_tensor_from_cpu_tensor"): _first,
            (_UTILS, "_rebuild_parameter"): _first,
            (_UTILS, "_rebuild_parameter_with_state"): _first,
            ("torch.nn.parameter", "UninitializedParameter"): _uninitialised,
            ("torch.nn.parameter", "UninitializedBuffer"): _uninitialised,
            ("torch._tensor", "_rebuild_from_type_v2"): self._of_type,
            ("torch._tensor", "_rebuild_from_type"): self._of_type,
            ("torch", "Size"): _first,
            ("tensordict._reductions", "_make_td"): _tensordict,
        }

    def _tensor(
        self, given: Sequence[object], dtype: object, marks: Sequence[object]
    ) -> StoredTensor | AbsentTensor:
        storage, offset, shape, strides = given[:4]
        if not isinstance(storage, Storage) or type(offset) is not int or offset < 0:
            raise Malformed("has a tensor without a storage")
        sizes, steps = checked_shape(shape), checked_shape(strides)
        told = storage.dtype if dtype is None else _dtype_name(dtype)
        name = _INTEGERS.get(told, told)
        if name not in ITEM_BYTES:
            return AbsentTensor(reason=f"has a dtype that is not read: {told[:40]}", shape=sizes, dtype=told)
        width = ITEM_BYTES[name]
        there = storage.num_elements * storage.width // width
        if len(sizes) != len(steps) or (0 not in sizes and offset + spanned(sizes, steps) > there):
            raise Malformed(f"has a tensor of shape {sizes} that leaves its storage of {there} elements")
        mark = marks[0] if marks and isinstance(marks[0], dict) else {}
        return StoredTensor(
            path=storage.path,
            bytes=storage.bytes,
            key=storage.key,
            dtype=name,
            shape=sizes,
            offset=offset + storage.start * storage.width // width,
            strides=steps,
            is_big_endian=self.is_big_endian,
            is_conjugated=mark.get("conj") is True,
            is_negated=mark.get("neg") is True,
            requires_grad=given[4:5] == (True,),
            room=storage.room,
        )

    def _of_type(self, given: Sequence[object]) -> object:
        """A tensor of a subclass: the function that makes it, the class, its arguments, its state."""
        function, kind, arguments, *_ = given
        table = self.calls()
        answer = table.get((function.module, function.name)) if isinstance(function, Global) else None
        if answer is None or not isinstance(arguments, tuple):
            return AbsentTensor(reason=IN_CODE.format(kind if isinstance(kind, Global) else "subclass"))
        return answer(arguments)


def _first(given: Sequence[object]) -> object:
    return given[0]


def _tensordict(given: Sequence[object]) -> object:
    """The entries of a TensorDict: its class and its attributes are given. Lazy stacks have none."""
    attributes = given[1]
    entries = attributes.get("_tensordict") if isinstance(attributes, dict) else None
    if not isinstance(entries, Entries):
        return Entries()
    size = attributes.get("_batch_size") if isinstance(attributes, dict) else None
    entries.num_batch_dims = len(size) if isinstance(size, (tuple, list)) else None
    return entries


def _uninitialised(_: Sequence[object]) -> AbsentTensor:
    return AbsentTensor(reason=NOT_INITIALISED)


def _on_meta(given: Sequence[object]) -> AbsentTensor:
    return AbsentTensor(reason=ON_META, shape=checked_shape(given[1]), dtype=_dtype_name(given[0]))


def _wrapper(given: Sequence[object]) -> AbsentTensor:
    kind, dtype, shape, *_ = given
    reason = IN_CODE.format(kind if isinstance(kind, Global) else "subclass")
    return AbsentTensor(reason=reason, shape=checked_shape(shape), dtype=_dtype_name(dtype))


def _dtype_name(dtype: object) -> str:
    if not isinstance(dtype, Global) or dtype.module != "torch":
        raise Malformed("has a tensor of an unknown dtype")
    return _DTYPE_NAMES.get(dtype.name, dtype.name)
