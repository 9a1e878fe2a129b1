"""Which format a file has, from its first bytes alone.

``zipfile.is_zipfile`` is no use here: it looks at the end and so takes a pickle for a zip when
the pickle's last value is one.
"""

from __future__ import annotations

import re
from typing import Final

from gradscope.read import sniff_table

SB3: Final = "sb3"
TORCH: Final = "torch"
TORCH_LEGACY: Final = "torch-legacy"
TORCH_EXPORT: Final = "torch-export"
SAFETENSORS: Final = "safetensors"
RECORDER: Final = "gradscope"
TIMELINE: Final = "gradscope-timeline"
ROLLOUT: Final = "gradscope-rollout"
PICKLE: Final = "pickle"
NORMALIZER: Final = "vec-normalize"
D3RLPY: Final = "d3rlpy"
NUMPY: Final = "numpy"
HDF5: Final = "hdf5"
PARQUET: Final = "parquet"
ARROW: Final = "arrow"
CSV: Final = "csv"
FORMATS: Final = (
    *(SB3, TORCH, TORCH_LEGACY, TORCH_EXPORT, SAFETENSORS, D3RLPY),
    *(RECORDER, TIMELINE, ROLLOUT, PICKLE, NORMALIZER, NUMPY),
    *(HDF5, PARQUET, ARROW, CSV),
)

_LEGACY_TORCH: Final = re.compile(
    rb"\x80[\x02-\x05](\x95.{8})?\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e", re.DOTALL
)
"""A pickle of torch's magic number, of any protocol (4 and later frame it)."""
_TAR: Final = (b"ustar", 257)
_ZIP: Final = b"PK\x03\x04"
_ZIP_HEADER_BYTES: Final = 30
_SB3_MEMBER: Final = re.compile(rb"data|policy\.pth|[\w.]*optimizer\.pth|pytorch_variables\.pth|_stable_.*")
_TORCH_MEMBER: Final = re.compile(rb"[^/]+/(data\.pkl|data/\d+|version|byteorder|\.\w+|\.data/.*)")
_EXPORT_MEMBER: Final = re.compile(
    rb"[^/]+/(archive_format|archive_version|models/.*|data/(weights|constants|sample_inputs|aotinductor)/.*)"
)
_PICKLE: Final = re.compile(rb"\x80[\x02-\x05]")
_D3RLPY: Final = re.compile(rb"\x80[\x04\x05].{0,9}\}\x94?\(?\x8c\x05torch\x94?[BC\x8e]", re.DOTALL)
"""A dict whose first entry is ``torch``, and bytes."""
_OBJECT: Final = re.compile(rb"[ \t\r\n]*\{")
_NPY: Final = b"\x93NUMPY"
_OLD_PICKLE: Final = re.compile(rb"[(\]}]|c[A-Za-z_][\w.]*\n[A-Za-z_]\w*\n")
"""Protocols 0 and 1 have no head: an open bracket, an empty list or dict, or a global's name."""
_PICKLE_SUFFIXES: Final = (".pkl", ".pickle")
_KNOWN_SUFFIXES: Final = {
    *(".pt", ".pth", ".pt2", ".ckpt", ".zip", ".d3", ".safetensors"),
    *(".pkl", ".pickle", ".joblib", ".npz", ".npy"),
    *(".h5", ".hdf5", ".parquet", ".feather", ".arrow"),
}
_PACKED_SUFFIX: Final = re.compile(r"\.(gz|bz2|xz|zst|lz4)$")
_PACKED: Final = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x78\x9c": "zlib",
    b"\x78\xda": "zlib",
    b"\x78\x01": "zlib",
    b"\x78\x5e": "zlib",
}
_MAGICS: Final = {b"\x89HDF\r\n\x1a\n": HDF5, b"PAR1": PARQUET, b"ARROW1\0\0": ARROW}
_STREAM: Final = re.compile(rb"\xff\xff\xff\xff...\0[\x08\x0c\x10\x14]\0\0\0", re.DOTALL)
"""Arrow's messages without a file around them, as datasets of Hugging Face are written."""
_NO_WEIGHTS: Final = re.compile(r"rng_state.*\.pth|training_args\.bin|scheduler\.pt")

_LOG: Final = re.compile(
    r"(.+\.)?monitor\.csv|progress\.csv|progress\.json|metrics\.csv|evaluations\.npz|events\.out\.tfevents\..*"
)
"""Of Stable-Baselines3 (Monitor, its logger, EvalCallback), Lightning's CSVLogger, TensorBoard."""


def format_of(head: bytes) -> str | None:
    """One of FORMATS, or None; ``head`` is the first HEAD_BYTES of the file."""
    if head.startswith(_ZIP):
        return _zip_format(head)
    if _is_safetensors(head):
        # Before pickles: a header of 640 bytes begins the file with 80 02, as a pickle does.
        return _safetensors_format(head)
    if _PICKLE.match(head):
        return _pickle_format(head)
    if head.startswith(_NPY):
        return NUMPY
    if head.startswith(b"{"):
        return TIMELINE if b"gradscope/timeline/" in head else None
    return _native_format(head)


def _is_safetensors(head: bytes) -> bool:
    """A length below 4 GiB, then JSON: an object that is empty or begins with a name."""
    return head[4:8] == bytes(4) and _OBJECT.match(head, 8) is not None


def _native_format(head: bytes) -> str | None:
    """What libhdf5 and Arrow read."""
    for magic, name in _MAGICS.items():
        if head.startswith(magic):
            return name
    if _STREAM.match(head):
        return ARROW
    return CSV if sniff_table.is_table(head) else None


def format_named(head: bytes, name: str) -> str | None:
    """The same where the name has to help: pickles of protocols 0 and 1 begin like text."""
    found = format_of(head)
    if found is None and name.lower().endswith(_PICKLE_SUFFIXES) and _OLD_PICKLE.match(head):
        return PICKLE
    return found


def is_promised(name: str) -> bool:
    """Whether a file's name promises a format that is read here."""
    lower = _PACKED_SUFFIX.sub("", name.lower())
    if lower.endswith(".jsonl"):
        return "gradscope" in lower
    return any(lower.endswith(suffix) for suffix in _KNOWN_SUFFIXES)


def is_without_weights(name: str) -> bool:
    """Files beside a checkpoint that are known to hold no weights."""
    return _NO_WEIGHTS.fullmatch(name) is not None


def is_log(name: str) -> bool:
    """Logs that libraries write beside checkpoints under fixed names, in formats that replays have too."""
    return _LOG.fullmatch(name) is not None


def strange_content(head: bytes) -> tuple[str, str]:
    """What is wrong with a file whose name promises what its first bytes do not keep; what to try."""
    if not head:
        return "is empty", "It may be still being written, or the disk was full."
    word, place = _TAR
    if head[place : place + len(word)] == word:
        return (
            "is a tar: packed files, or torch's format from before 0.1.10",
            "Unpack it, or save it anew with torch.",
        )
    if packed := next((how for magic, how in _PACKED.items() if head.startswith(magic)), None):
        return f"is compressed ({packed})", "Decompress it first."
    if head.startswith(_ZIP):
        return f"is a zip of no known layout (first member {_first_member(head)[:80]!r})", ""
    return f"begins like no known format: {head[:8]!r}", "Copy it again, or leave it out."


def _safetensors_format(head: bytes) -> str:
    if b'"__metadata__"' not in head:
        return SAFETENSORS
    if b"gradscope/rollout/" in head:
        return ROLLOUT
    return RECORDER if b"gradscope/snapshot/" in head else SAFETENSORS


def _first_member(head: bytes) -> bytes:
    length = int.from_bytes(head[26:28], "little")
    return head[_ZIP_HEADER_BYTES : _ZIP_HEADER_BYTES + length]


def _zip_format(head: bytes) -> str | None:
    member = _first_member(head)
    if _SB3_MEMBER.fullmatch(member):
        return SB3
    if _EXPORT_MEMBER.fullmatch(member):
        return TORCH_EXPORT
    if member.endswith(b".npy"):
        return NUMPY
    return TORCH if _TORCH_MEMBER.fullmatch(member) else None


def _pickle_format(head: bytes) -> str | None:
    if _LEGACY_TORCH.match(head):
        return TORCH_LEGACY
    if _D3RLPY.match(head):
        return D3RLPY
    return NORMALIZER if b"VecNormalize" in head[:256] else PICKLE
