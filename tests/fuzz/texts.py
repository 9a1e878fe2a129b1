"""JSON taken apart and put together again, alone, in lines, and as the header of safetensors; npy headers."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import struct
from typing import TYPE_CHECKING, Any, Final

from fuzz.plain import mutated_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuzz.mutations import Mutation, Random

_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 2, 255, 1 << 31, (1 << 62) - 1, 10**15 + 1, 10**400, 0.5, -0.0, 1e308),
    *(
        "",
        "x",
        "F32",
        "BF16",
        "C64",
        "I64",
        "\ud800",
        "a\nb",
        "\x1b[31m",
        "weight",
        "observations",
        "actions",
    ),
    *([], {}, [0, 0], [2, 3], [0, 1 << 40], [[[]]], {"": {}}, {"schema": 1}, [None], ["x"], [1e308]),
)
_KEYS: Final = (
    *("__metadata__", "dtype", "shape", "data_offsets", "schema", "step", "layers", "name", "optimizers"),
    *(
        "gradscope",
        "settings",
        "slices",
        "reasons",
        "num_zero",
        "norm",
        "optimizer",
        "algorithm",
        ":serialized:",
    ),
    *("num_timesteps", "policy_kwargs", "policy_class", "learning_rate", "weight_map", "global_step", ""),
)
_SPLICES: Final = (
    b"NaN",
    b"Infinity",
    b"-",
    b"[" * 2000,
    b'{"a":' * 500,
    b"1e999",
    b"9" * 5000,
    b'"\\ud800"',
    b"\xff",
)


def mutated_json(content: bytes, random: Random, within: Mutation) -> bytes:
    """One value somewhere in it changed; now and then a word that is no JSON."""
    if random.randrange(12) == 0:
        place = random.randrange(len(content) + 1)
        return content[:place] + random.choice(_SPLICES) + content[place:]
    try:
        value = json.loads(content)
        return json.dumps(_changed(value, random, within), separators=(",", ":")).encode()
    except (ValueError, RecursionError, TypeError):
        return mutated_bytes(content, random)


def _changed(value: Any, random: Random, within: Mutation) -> Any:
    """The value with one of its parts changed."""
    change = next((change for kind, change in _CHANGES if isinstance(value, kind)), None)
    if not value or change is None or random.randrange(8) == 0:
        return random.choice(_VALUES)
    return change(value, random, within)


def _changed_list(value: list[Any], random: Random, within: Mutation) -> list[Any]:
    place, action = random.randrange(len(value)), random.randrange(6)
    if action == 0:
        return value[:place] + value[place + 1 :]
    if action == 1:
        return value[:place] + [value[place]] * random.choice((2, 3, 40)) + value[place:]
    return [*value[:place], _changed(value[place], random, within), *value[place + 1 :]]


def _changed_number(value: int, random: Random, _: Mutation) -> int:
    return value + random.choice((-1, 1, value, -2 * value, 4))


def _changed_table(value: dict[str, Any], random: Random, within: Mutation) -> dict[str, Any]:
    key = random.choice(list(value))
    action = random.randrange(8)
    if action == 0:
        return {each: it for each, it in value.items() if each != key}
    if action == 1:
        new = random.choice((*_KEYS, key + "x"))
        return {(new if each == key else each): it for each, it in value.items()}
    if action == 2:
        return {**value, random.choice((*_KEYS, key + "x")): random.choice((value[key], *_VALUES))}
    return {**value, key: _changed(value[key], random, within)}


def _changed_text(value: str, random: Random, within: Mutation) -> str:
    """A text that is itself JSON, or pickled, is changed inside."""
    if value[:1] in "{[":
        return mutated_json(value.encode("utf-8", "replace"), random, within).decode("utf-8", "replace")
    if re.fullmatch(r"[A-Za-z0-9+/]{12,}=*", value):
        with contextlib.suppress(ValueError):
            return base64.b64encode(within(base64.b64decode(value), random)).decode()
    return random.choice((random.choice(_KEYS), value[:-1], value * 2))


_CHANGES: Final[tuple[tuple[type, Callable[[Any, Random, Mutation], Any]], ...]] = (
    (dict, _changed_table),
    (list, _changed_list),
    (str, _changed_text),
    (int, _changed_number),
)


def mutated_lines(content: bytes, random: Random, within: Mutation) -> bytes:
    """One line changed, lost, doubled or moved."""
    lines = content.splitlines(keepends=True)
    place, other = random.randrange(len(lines)), random.randrange(len(lines))
    action = random.randrange(8)
    if action == 0:
        del lines[place]
    elif action == 1:
        lines[place:place] = [lines[other]] * random.choice((1, 2, 30))
    elif action == 2:
        lines[place], lines[other] = lines[other], lines[place]
    elif action == 3:
        lines[place] = lines[place].rstrip(b"\n")
    else:
        lines[place] = mutated_json(lines[place].rstrip(b"\n"), random, within) + b"\n"
    return b"".join(lines)


def mutated_safetensors(content: bytes, random: Random, within: Mutation) -> bytes:
    """The header changed, its length made right again; or the bytes behind it."""
    length = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + length], content[8 + length :]
    if random.randrange(10) == 0:
        return content[:8] + header + mutated_bytes(data, random)
    changed = mutated_json(header, random, within)
    claimed = len(changed) if random.randrange(20) else random.choice((0, len(content), 1 << 40))
    return struct.pack("<Q", claimed) + changed + data


_DESCRIBED: Final = (
    *(
        b"'<f4'",
        b"'|b1'",
        b"'|O'",
        b"'<U3'",
        b"[('a','<f4')]",
        b"(0,)",
        b"(2,3)",
        b"()",
        b"(1<<62,)",
        b"True",
        b"None",
    ),
    *(
        b"-1",
        b"9" * 5000,
        b"'\\d'",
        b"[" * 300,
        b"-" * 3000,
        b"1if",
        b"{",
        b"'fortran_order'",
        b"'shape'",
        b"\0",
    ),
)


def mutated_npy(content: bytes, random: Random, _: object = None) -> bytes:
    """The header's text changed, its length made right again; or the bytes behind it."""
    length = int.from_bytes(content[8:10], "little")
    header, data = content[10 : 10 + length], content[10 + length :]
    if random.randrange(6) == 0:
        return content[: 10 + length] + mutated_bytes(data, random)
    changed = mutated_words(header, random)
    return content[:8] + struct.pack("<H", len(changed) & 0xFFFF) + changed + data


def mutated_words(content: bytes, random: Random, _: object = None) -> bytes:
    """A word of a Python literal changed, doubled or lost."""
    words = re.findall(rb"'[^']*'|[0-9]+|\w+|\s+|.", content, re.DOTALL)
    if not words or random.randrange(8) == 0:
        return mutated_bytes(content, random)
    place = random.randrange(len(words))
    action = random.randrange(4)
    if action == 0:
        del words[place]
    elif action == 1:
        words.insert(place, words[random.randrange(len(words))])
    else:
        words[place] = random.choice(_DESCRIBED)
    return b"".join(words)
