"""Pickles taken apart into opcodes and put together again."""

from __future__ import annotations

import contextlib
import pickletools
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuzz.mutations import Random

_MAX_OPCODES: Final = 4_000
NUMBERS: Final = (
    0,
    1,
    2,
    3,
    4,
    8,
    64,
    255,
    256,
    65535,
    1 << 20,
    (1 << 31) - 1,
    1 << 31,
    1 << 40,
    (1 << 62) - 1,
)
GLOBALS: Final = (
    *("numpy dtype", "numpy._core.numeric _frombuffer", "numpy._core.multiarray scalar"),
    *("numpy.core.multiarray _reconstruct", "numpy ndarray", "collections OrderedDict", "collections deque"),
    *("collections defaultdict", "_codecs encode", "copyreg _reconstructor", "builtins bytes", "os system"),
    *(
        "torch._utils _rebuild_tensor_v2",
        "torch._utils _rebuild_tensor_v3",
        "torch._utils _rebuild_parameter",
    ),
    *("torch._tensor _rebuild_from_type_v2", "torch FloatStorage", "torch BFloat16Storage", "torch bfloat16"),
    *("stable_baselines3.common.buffers ReplayBuffer", "gymnasium.spaces.box Box", "a\nb c"),
    *("cloudpickle.cloudpickle _make_function", "cloudpickle.cloudpickle _make_skeleton_class"),
    *("cloudpickle.cloudpickle _function_setstate", "cloudpickle.cloudpickle subimport"),
)
_TEXTS: Final = (
    *("", "state", "param_groups", "params", "param_names", "step", "exp_avg", "model", "grads", "optimizer"),
    *("observations", "next_observations", "pos", "full", "obs_rms", "ret_rms", "mean", "var", "norm_obs"),
    *(
        "dones",
        "timeouts",
        "storage",
        "0",
        "f4",
        "<f8",
        "S9",
        "U3",
        "V8",
        "O",
        "K",
        "C",
        "F",
        "latin1",
        "a\nb",
    ),
    *("\ud800", "_parameters", "_modules", "conj", "__qualname__", "x" * 300),
)
_PLAIN: Final = (
    *(
        b"0",
        b"2",
        b"(",
        b"1",
        b"N",
        b"\x88",
        b"\x89",
        b")",
        b"]",
        b"}",
        b"\x8f",
        b"\x94",
        b"\x85",
        b"\x86",
        b"\x87",
    ),
    *(
        b"t",
        b"l",
        b"d",
        b"a",
        b"e",
        b"s",
        b"u",
        b"R",
        b"\x81",
        b"\x92",
        b"b",
        b"\x90",
        b"\x91",
        b"\x93",
        b"Q",
        b"\x98",
    ),
    *(b"o", b"\x97", b"."),
)


def opcodes(content: bytes) -> list[bytes]:
    """Each opcode with its argument; frames, which only say how far to read ahead, are left out."""
    starts: list[int] = []
    with contextlib.suppress(Exception):  # it was mutated: what lies behind stays in one piece
        for opcode, _, place in pickletools.genops(content):
            starts.append(-1 if opcode.name == "FRAME" else place or 0)
            if len(starts) > _MAX_OPCODES:
                break
    return [content[start:end] for start, end in _positions(content, starts)]


def _positions(content: bytes, starts: list[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for place, start in enumerate(starts):
        if start < 0:
            continue
        following = starts[place + 1] if place + 1 < len(starts) else len(content)
        end = following if following >= 0 else content.find(b"\x95", start)
        found.append((start, end))
    return found


def mutated_pickle(content: bytes, random: Random) -> bytes:
    """Opcodes lost, doubled, swapped, moved, put in, or with another argument."""
    pieces = opcodes(content)
    if len(pieces) < 3:
        return content + b"."
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        _mutate(pieces, random)
    return b"".join(pieces)


def _mutate(pieces: list[bytes], random: Random) -> None:
    place, other = random.randrange(len(pieces)), random.randrange(len(pieces))
    action = random.randrange(10)
    if action == 0:
        del pieces[place]
    elif action == 1:
        pieces[place:place] = [pieces[place]] * random.choice((1, 1, 2, 50))
    elif action == 2:
        pieces[place], pieces[other] = pieces[other], pieces[place]
    elif action == 3:
        first, last = sorted((place, other))
        moved = pieces[first : min(last, first + 12)]
        pieces[place:place] = moved
    elif action == 4:
        pieces.insert(place, random.choice(_PLAIN))
    elif action == 5:
        pieces.insert(place, b"h" + bytes([random.randrange(40)]))
    elif action == 6:
        pieces.insert(place, random.choice((_global, _text, _number))(random))
    else:
        pieces[place] = _argument(pieces[place], random)
    if not pieces:
        pieces.append(b".")


def _argument(piece: bytes, random: Random) -> bytes:
    """The same opcode with another argument, of the same kind."""
    code = piece[:1]
    maker = next((make for codes, make in _MAKERS if code in codes), None)
    if maker is not None:
        return maker(random)
    if len(piece) == 1:
        return random.choice(_PLAIN)
    changed = bytearray(piece)
    changed[random.randrange(1, len(changed))] = random.randrange(256)
    return bytes(changed)


def _number(random: Random) -> bytes:
    value = random.choice(NUMBERS) * random.choice((1, 1, 1, -1))
    kind = random.randrange(8)
    if kind == 0:
        return b"G" + struct.pack(
            ">d", random.choice((float(value), float("nan"), float("inf"), -0.0, 1e308))
        )
    if kind == 1:
        return random.choice((b"\x88", b"\x89", b"N"))
    if kind == 2:
        big = (1 << random.choice((61, 64, 2000))) - random.randrange(3)
        return b"\x8b" + struct.pack("<I", 251) + big.to_bytes(251, "little")
    encoded = value.to_bytes(9, "little", signed=True)
    return b"\x8a\x09" + encoded if not 0 <= value < 1 << 31 else b"J" + struct.pack("<I", value)


def _text(random: Random) -> bytes:
    encoded = random.choice(_TEXTS).encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _bytes(random: Random) -> bytes:
    size = random.choice((0, 1, 4, 8, 64, 4096))
    code = random.choice((b"B", b"\x8e", b"\x96"))
    return code + struct.pack("<I" if code == b"B" else "<Q", size) + b"\x01" * size


def _global(random: Random) -> bytes:
    module, _, name = random.choice(GLOBALS).partition(" ")
    texts = [b"X" + struct.pack("<I", len(each)) + each.encode() for each in (module, name)]
    return b"".join(texts) + b"\x93"


def _memo(random: Random) -> bytes:
    return random.choice((b"h", b"q")) + bytes([random.randrange(60)])


_MAKERS: Final[tuple[tuple[bytes, Callable[[Random], bytes]], ...]] = (
    (b"KMJ\x8a\x8b\x88\x89NGILF", _number),
    (b"\x8cX\x8dV", _text),
    (b"c", _global),
    (b"hq", _memo),
    (b"CB\x8e\x96", _bytes),
)
"""Opcodes and what makes an opcode of their kind."""
