"""What a process shares with the code it runs, and how to put it back."""

from __future__ import annotations

import logging
import os
import random
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NUMPY: Final = np.random.mtrand._rand  # noqa: SLF001  numpy's global state, which user code draws from


@dataclass(frozen=True, kw_only=True, eq=False)
class Surroundings:
    """Paths, environment variables, global random states and settings of numpy and torch."""

    path: Sequence[str]
    arguments: Sequence[str]
    writes_bytecode: bool
    environment: Mapping[str, str]
    folder: str | None
    """Working directory; None where it is gone."""
    random_states: tuple[torch.Tensor, Any, Any]
    errors: Any
    """numpy's handling of floating-point errors."""
    log_level: int
    log_handlers: Sequence[logging.Handler]
    """Of the root logger, which basicConfig changes."""
    torch: TorchSettings

    def put_back(self) -> None:
        """Make it so again."""
        sys.path[:], sys.argv[:] = self.path, self.arguments
        sys.dont_write_bytecode = not self.writes_bytecode
        _put_environment(self.environment)
        if self.folder is not None:
            with suppress(OSError):
                os.chdir(self.folder)
        torch.set_rng_state(self.random_states[0])
        _NUMPY.set_state(self.random_states[1])
        random.setstate(self.random_states[2])
        np.seterr(**self.errors)
        logging.root.setLevel(self.log_level)
        logging.root.handlers[:] = self.log_handlers
        self.torch.put_back()


@dataclass(frozen=True, kw_only=True, eq=False)
class TorchSettings:
    """Those of torch that change numbers or graphs."""

    dtype: torch.dtype
    device: torch.device
    num_threads: int
    is_deterministic: bool
    warns_only: bool
    has_gradients: bool
    finds_anomalies: bool
    precision: str

    def put_back(self) -> None:
        """Make it so again."""
        torch.set_default_dtype(self.dtype)
        if torch.get_default_device() != self.device:
            # None is not the same as "cpu", which would slow every call.
            torch.set_default_device(None if self.device.type == "cpu" else self.device)
        if torch.get_num_threads() != self.num_threads:
            torch.set_num_threads(self.num_threads)
        torch.use_deterministic_algorithms(self.is_deterministic, warn_only=self.warns_only)
        torch.set_grad_enabled(self.has_gradients)
        if torch.is_anomaly_enabled() != self.finds_anomalies:
            torch.autograd.set_detect_anomaly(self.finds_anomalies)
        torch.set_float32_matmul_precision(self.precision)


def surroundings() -> Surroundings:
    """As they are now."""
    folder = None
    with suppress(OSError):
        folder = os.getcwd()  # noqa: PTH109  a text is what chdir takes back
    return Surroundings(
        path=tuple(sys.path),
        arguments=tuple(sys.argv),
        writes_bytecode=not sys.dont_write_bytecode,
        environment=dict(os.environ),
        folder=folder,
        random_states=(torch.get_rng_state(), _NUMPY.get_state(), random.getstate()),
        errors=np.geterr(),
        log_level=logging.root.level,
        log_handlers=tuple(logging.root.handlers),
        torch=TorchSettings(
            dtype=torch.get_default_dtype(),
            device=torch.get_default_device(),
            num_threads=torch.get_num_threads(),
            is_deterministic=torch.are_deterministic_algorithms_enabled(),
            warns_only=torch.is_deterministic_algorithms_warn_only_enabled(),
            has_gradients=torch.is_grad_enabled(),
            finds_anomalies=torch.is_anomaly_enabled(),
            precision=torch.get_float32_matmul_precision(),
        ),
    )


def _put_environment(environment: Mapping[str, str]) -> None:
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    for name, value in environment.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
