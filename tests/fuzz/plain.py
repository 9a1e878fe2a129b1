"""Changes to bytes of which nothing is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

_INTERESTING: Final = (
    b"\0",
    b"\xff",
    b"\x7f\xff\xff\xff",
    b"\xff" * 8,
    b"\0" * 8,
    b"\n",
    b"PK\x01\x02",
    b"\x80\x04",
)


def mutated_bytes(content: bytes, random: Random) -> bytes:
    """A few bytes changed, put in, or cut out."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 4))):
        place = random.randrange(len(changed) + 1)
        action = random.randrange(4)
        if action == 0:
            changed[place:place] = random.choice((*_INTERESTING, bytes([random.randrange(256)])))
        elif action == 1:
            del changed[place : place + random.choice((1, 1, 4, 64))]
        elif action == 2:
            interesting = random.choice(_INTERESTING)
            changed[place : place + len(interesting)] = interesting
        elif place < len(changed):
            changed[place] = random.randrange(256)
    return bytes(changed)
