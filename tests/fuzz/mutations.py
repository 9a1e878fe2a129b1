"""Changes to an input that keep what would stop a parser early: checksums, lengths, opcodes, JSON.

Told by the first bytes, so that a format made of known parts needs no mutator of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from typing import Final, TypeAlias

from fuzz import folders
from fuzz.pickles import mutated_pickle
from fuzz.plain import mutated_bytes
from fuzz.texts import mutated_json, mutated_lines, mutated_npy, mutated_safetensors, mutated_words
from fuzz.zips import mutated_zip

Mutation: TypeAlias = Callable[[bytes, Random], bytes]


def mutated(content: bytes, random: Random, plainly: Mutation | None = None) -> bytes:
    """The content changed in one place, or a few, with regard to what it is.

    Args:
        content: any bytes.
        random: decides everything.
        plainly: changes bytes that have no structure; libFuzzer has one of its own.
    """
    plain = plainly or mutated_bytes
    if not content or random.randrange(10) == 0:
        return plain(content, random)

    def within(part: bytes, random: Random) -> bytes:
        return mutated(part, random, plain)

    mutation = next((each for pattern, each in _BY_BYTES if pattern.match(content)), None)
    return plain(content, random) if mutation is None else mutation(content, random, within)


def _mutated_folder(content: bytes, random: Random, within: Mutation) -> bytes:
    parts = folders.parts(content)
    if not parts:
        return mutated_bytes(content, random)
    name = random.choice(list(parts))
    action = random.randrange(10)
    if action == 0:
        del parts[name]
    elif action == 1:
        parts[random.choice(list(parts))] = parts[name]
    elif action == 2:
        parts[name + random.choice(("x", "/x", "0"))] = parts[name]
    else:
        parts[name] = within(parts[name], random)
    return folders.of_parts(parts)


_BY_BYTES: Final[tuple[tuple[re.Pattern[bytes], Callable[[bytes, Random, Mutation], bytes]], ...]] = (
    (re.compile(rb"FOLDER\r\n"), _mutated_folder),
    (re.compile(rb"PK\x03\x04"), mutated_zip),
    (re.compile(rb"\x80[\x02-\x05]"), lambda content, random, _: mutated_pickle(content, random)),
    (re.compile(rb"\x93NUMPY"), mutated_npy),
    (re.compile(rb"....\0\0\0\0\{", re.DOTALL), mutated_safetensors),
    (re.compile(rb"\{'"), mutated_words),
    (re.compile(rb"\{.*\}\n", re.DOTALL), mutated_lines),
    (re.compile(rb"[{\[]"), mutated_json),
)
