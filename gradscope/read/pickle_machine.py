"""The standard library's pickle opcodes, minus those that could act, plus bounds."""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any, Final

from gradscope.read.file_bytes import Malformed
from gradscope.read.pickle_bounds import Bounds
from gradscope.read.pickle_filling import extend, fill
from gradscope.read.pickle_memo import Memo
from gradscope.read.pickle_stubs import PLAIN_TABLE, Buildable, Entries, Global, Stub

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gradscope.read.file_bytes import Bytes
    from gradscope.read.safe_pickle import Table

MAX_OPCODES: Final = 20_000_000
"""About 10 s of work; a buffer of 50,000 pickled transitions needs under 2 million."""
MAX_MARKS: Final = 10_000
MAX_GLOBALS: Final = 1_000
MAX_SETS: Final = 100_000
"""One takes 216 bytes of memory and a single byte of a file."""
VIEW_BYTES: Final = 4096
"""Longer byte strings are seen in place."""
OVERRIDDEN: Final = (
    *("FRAME", "MARK", "BINPERSID", "BINBYTES", "BINBYTES8", "BYTEARRAY8", "READONLY_BUFFER"),
    *("REDUCE", "NEWOBJ", "NEWOBJ_EX", "BUILD", "APPEND", "APPENDS", "SETITEM", "SETITEMS"),
    *("DICT", "EMPTY_DICT", "EMPTY_SET", "ADDITEMS", "FROZENSET"),
)
REFUSED: Final = ("INST", "OBJ", "PERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER")


class Machine(pickle._Unpickler):  # noqa: SLF001  the C one cannot be bounded
    """The standard library's opcodes, minus those that could act, plus bounds."""

    dispatch = dict(pickle._Unpickler.dispatch)  # noqa: RUF012, SLF001  the base class's own way

    def __init__(
        self, data: Bytes, table: Table, persistent: Callable[[object], object] | None, room: int
    ) -> None:
        super().__init__(io.BytesIO(), encoding="latin1")
        self.data = data
        self.position = 0
        self._size = len(data)
        self.unknown: dict[tuple[str, str], Global] = {}
        self._num_sets = 0
        self._globals: dict[tuple[str, str], Global] = {}
        self._table = {**PLAIN_TABLE, **table}
        self._persistent = persistent
        self._bounds = Bounds(len(data), room)
        self.memo = Memo()
        self.metastack: list[list[Any]] = []
        self.stack: list[Any] = []
        self.append: Callable[[object], None] = self.stack.append

    def load(self) -> object:
        """Run opcodes until STOP."""
        dispatch: Mapping[int, Callable[[Any], None]] = self.dispatch
        data, size = self.data, len(self.data)
        for _ in range(MAX_OPCODES):
            position = self.position
            if position >= size:
                raise Malformed("ends in the middle of a pickle")
            opcode = data[position]
            self.position = position + 1
            if opcode == pickle.STOP[0]:
                return self.stack.pop()
            dispatch[opcode](self)
        raise Malformed(f"is a pickle of more than {MAX_OPCODES} operations")

    def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        start = self.position
        self.position = self._end(size)
        return self.data[start : self.position]

    def readline(self) -> bytes:
        """Bytes up to and with the next line end."""
        end = self.data.find(b"\n", self.position)
        if end < 0:
            raise Malformed("ends in the middle of a pickle")
        return self.read(end + 1 - self.position)

    def find_class(self, module: str, name: str) -> Global:
        """A name, never looked up."""
        key = module, name
        if key not in self._globals:
            if len(self._globals) >= MAX_GLOBALS:
                raise Malformed(f"names more than {MAX_GLOBALS} globals")
            self._globals[key] = Global(module, name)
            if key not in self._table:
                self.unknown[key] = self._globals[key]
        return self._globals[key]

    def _end(self, size: int) -> int:
        end = self.position + size
        if end > self._size:
            raise Malformed(f"claims {size} bytes where {self._size - self.position} are left")
        return end

    def _view(self, size: int) -> memoryview:
        end = self._end(size)
        view = memoryview(self.data)[self.position : end]
        self.position = end
        return view

    def _called(self, function: object, arguments: object) -> object:
        if not isinstance(arguments, tuple) or not isinstance(function, (Global, Stub)):
            raise Malformed(f"calls a {type(function).__name__}")
        answer = None
        if isinstance(function, Global):
            answer = self._table.get((function.module, function.name))
        return self._bounds.counted(answer(arguments)) if answer else Stub(function, arguments)

    def load_frame(self) -> None:
        """Only a hint for reading ahead."""
        self._end(int.from_bytes(self.read(8), "little"))

    def load_binpersid(self) -> None:
        """A torch storage, where torch storages are expected."""
        if self._persistent is None:
            raise Malformed("refers to objects outside of it")
        self.append(self._persistent(self.stack.pop()))

    def load_binbytes8(self) -> None:
        """Array data: seen in place, not copied."""
        self.append(self._view(int.from_bytes(self.read(8), "little")))

    load_bytearray8 = load_binbytes8

    def load_binbytes(self) -> None:
        """The same in older protocols, or a short value."""
        size = int.from_bytes(self.read(4), "little")
        self.append(self.read(size) if size < VIEW_BYTES else self._view(size))

    def load_mark(self) -> None:
        """Begin a group of items."""
        if len(self.metastack) >= MAX_MARKS:
            raise Malformed("is nested too deeply")
        self.metastack.append(self.stack)
        self.stack = []
        self.append = self.stack.append

    def pop_mark(self) -> list[Any]:
        """Items since the last mark."""
        items = self.stack
        self.stack = self.metastack.pop()
        self.append = self.stack.append
        return items

    def load_reduce(self) -> None:
        """A call: answered by our own table or by a stub."""
        arguments = self.stack.pop()
        self.stack[-1] = self._called(self.stack[-1], arguments)

    def load_newobj(self) -> None:
        """A new object: the same as a call."""
        self.load_reduce()

    def load_newobj_ex(self) -> None:
        """A new object with named arguments, which no object of ours takes."""
        self.stack.pop()
        self.load_reduce()

    def load_build(self) -> None:
        """State for a stub or an array; real objects get none."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, (Stub, Buildable)):
            target.build(state)
            self._bounds.counted(target)
        elif not isinstance(target, (dict, Global)):
            raise Malformed(f"sets attributes of a {type(target).__name__}")

    def load_append(self) -> None:
        """One more item of a list."""
        item = self.stack.pop()
        extend(self.stack[-1], [item])

    def load_appends(self) -> None:
        """More items of a list."""
        items = self.pop_mark()
        extend(self.stack[-1], items)

    def load_setitem(self) -> None:
        """One more entry of a dict."""
        value = self.stack.pop()
        key = self.stack.pop()
        fill(self.stack[-1], [key, value], self._bounds.key)

    def load_setitems(self) -> None:
        """More entries of a dict."""
        items = self.pop_mark()
        fill(self.stack[-1], items, self._bounds.key)

    def load_dict(self) -> None:
        """A dict of the items since the last mark."""
        items = self.pop_mark()
        self.append(Entries())
        fill(self.stack[-1], items, self._bounds.key)

    def load_empty_dict(self) -> None:
        """A dict that knows its keys' kind."""
        self.append(Entries())

    def load_empty_set(self) -> None:
        """A set; few files have any."""
        self._num_sets += 1
        if self._num_sets > MAX_SETS:
            raise Malformed(f"holds more than {MAX_SETS} sets")
        self.append(set())

    def load_additems(self) -> None:
        """More members of a set."""
        items = self.pop_mark()
        target = self.stack[-1]
        if isinstance(target, set):
            target.update(self._bounds.key(item) for item in items)
        elif isinstance(target, Stub):
            target.items.extend(items)
        else:
            raise Malformed(f"adds members to a {type(target).__name__}")

    def load_frozenset(self) -> None:
        """A set of the items since the last mark."""
        items = frozenset(self._bounds.key(item) for item in self.pop_mark())
        self.append(items)

    def load_readonly_buffer(self) -> None:
        """Everything is read-only here."""

    def refuse(self) -> None:
        """An opcode no file of ours needs."""
        raise Malformed(f"uses pickle opcode {self.data[self.position - 1]:#x}, which is not read")


Machine.dispatch |= {
    getattr(pickle, name)[0]: getattr(Machine, f"load_{name.lower()}") for name in OVERRIDDEN
}
Machine.dispatch |= {getattr(pickle, name)[0]: Machine.refuse for name in REFUSED}
