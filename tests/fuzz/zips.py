"""Zips taken apart and put together again with right checksums, sizes and offsets."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, Final

from fuzz.plain import mutated_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fuzz.mutations import Mutation, Random

_LOCAL: Final = struct.Struct("<4s5H3L2H")
_ENTRY: Final = struct.Struct("<4s6H3L5H2L")
_END: Final = struct.Struct("<4s4H2LH")
_MAX_MEMBERS: Final = 100
NAMES: Final = (
    *("a/data.pkl", "archive/data.pkl", "a/data/0", "a/byteorder", "a/constants.pkl", "a/version"),
    *("data", "policy.pth", "policy.optimizer.pth", "actor.optimizer.pth", "pytorch_variables.pth"),
    *("system_info.txt", "observations.npy", "../x.npy", "", "a/", "obs.npy"),
)


def members_of(content: bytes) -> dict[str, bytes]:
    """Members by name; empty where there is no zip to take apart."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            listed = [each for each in archive.infolist() if each.file_size <= 1 << 20][:_MAX_MEMBERS]
            return {each.filename: archive.read(each) for each in listed}
    except Exception:  # noqa: BLE001  it was mutated: whatever is wrong with it, it is no zip
        return {}


def zip_of(members: Mapping[str, bytes] | Iterable[tuple[str, bytes]]) -> bytes:
    """A stored zip of these members, in this order; the names may repeat."""
    pairs = members.items() if hasattr(members, "items") else members
    written, directory, count = bytearray(), bytearray(), 0
    for name, content in pairs:
        encoded, checksum, start = name.encode("utf-8", "replace"), zlib.crc32(content), len(written)
        sizes = checksum, len(content), len(content)
        written += _LOCAL.pack(b"PK\x03\x04", 10, 0, 0, 0, 0, *sizes, len(encoded), 0) + encoded + content
        directory += _ENTRY.pack(
            b"PK\x01\x02", 10, 10, 0, 0, 0, 0, *sizes, len(encoded), 0, 0, 0, 0, 0, start
        )
        directory += encoded
        count += 1
    end = _END.pack(b"PK\x05\x06", 0, 0, count, count, len(directory), len(written), 0)
    return bytes(written + directory + end)


def mutated_zip(content: bytes, random: Random, within: Mutation) -> bytes:
    """One member changed by ``within``, renamed, doubled, lost or moved; then the directory fits again."""
    pairs = list(members_of(content).items())
    if not pairs:
        return mutated_bytes(content, random)
    place = random.randrange(len(pairs))
    name, each = pairs[place]
    action = random.randrange(10)
    if action < 6:
        pairs[place] = name, within(each, random)
    elif action == 6:
        pairs[place] = random.choice((*NAMES, *(other for other, _ in pairs))), each
    elif action == 7:
        pairs.insert(random.randrange(len(pairs) + 1), (random.choice((name, *NAMES)), each))
    elif action == 8:
        del pairs[place]
    else:
        other = random.randrange(len(pairs))
        pairs[place], pairs[other] = (name, pairs[other][1]), (pairs[other][0], each)
    made = zip_of(pairs)
    return _tail_mutated(made, random) if random.randrange(6) == 0 else made


def _tail_mutated(content: bytes, random: Random) -> bytes:
    """A field of the directory or of the end changed: sizes, offsets, flags."""
    changed = bytearray(content)
    start = content.find(b"PK\x01\x02")
    place = random.randrange(max(start, 0), len(changed) - 4)
    width = random.choice((1, 2, 4))
    value = random.choice((0, 1, 2, 46, len(content), 0xFFFF, 0xFFFFFFFF, random.randrange(1 << 16)))
    changed[place : place + width] = (value % (1 << 8 * width)).to_bytes(width, "little")
    return bytes(changed)
