"""Which reader takes which format; format_table.py says what each can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.read import sniff, sniff_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

READERS: Final[Mapping[str, tuple[str, str]]] = {
    sniff.SB3: ("sb3_zip", "Sb3Zip"),
    sniff.TORCH: ("torch_zip", "TorchZip"),
    sniff.TORCH_LEGACY: ("torch_zip", "TorchLegacy"),
    sniff.TORCH_EXPORT: ("torch_export", "TorchExport"),
    sniff.SAFETENSORS: ("safetensors_file", "SafetensorsFile"),
    sniff.RECORDER: ("recorder_file", "RecorderFile"),
    sniff.TIMELINE: ("timeline", "TimelineReader"),
    sniff.ROLLOUT: ("rollout_file", "RolloutFile"),
    sniff.PICKLE: ("pickle_file", "PickleFile"),
    sniff.NORMALIZER: ("vec_normalize", "VecNormalizeFile"),
    sniff.D3RLPY: ("d3rlpy_file", "D3rlpyFile"),
    sniff_folder.RLLIB: ("rllib_folder", "RllibFolder"),
    sniff_folder.TRAINER: ("trainer_folder", "TrainerFolder"),
    sniff_folder.SHARDED: ("sharded", "ShardedFolder"),
    sniff_folder.DCP: ("dcp_folder", "DcpFolder"),
    sniff_folder.D3RLPY_RUN: ("d3rlpy_run", "D3rlpyRun"),
    sniff.NUMPY: ("numpy_file", "NumpyFile"),
    sniff_folder.TORCHRL: ("torchrl_folder", "TorchrlFolder"),
    sniff.HDF5: ("hdf5_file", "Hdf5File"),
    sniff.PARQUET: ("table_file", "parquet_file"),
    sniff.ARROW: ("table_file", "arrow_file"),
    sniff.CSV: ("table_file", "csv_file"),
    sniff_folder.MINARI: ("minari_folder", "MinariFolder"),
}
"""Module of gradscope.read and class of each reader, by what sniff.py calls its files and folders."""
TAKES_KEYS: Final[frozenset[str]] = frozenset(
    {sniff.PICKLE, sniff.NUMPY, sniff.TORCH, sniff.TORCH_LEGACY, sniff_folder.TORCHRL}
    | {sniff.HDF5, sniff.PARQUET, sniff.ARROW, sniff.CSV}
)
"""Readers of files whose entries a user may have to name: they have a field ``keys``."""
