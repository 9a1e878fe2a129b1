"""What a user may set, its defaults and where each default comes from."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from gradscope.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ZERO_TOLERANCE: Final = 1e-8
"""|g| <= this is a zero. Levels in use elsewhere: 0, 1e-8, 1e-6, 1e-4 (grail)."""
WARN: Final = 0.10
"""Share of zeros. The case: below 10 % is healthy."""
CRITICAL: Final = 0.25
"""Share of zeros. The case: 27 % was called an explosion."""
COLLAPSE: Final = 0.50
"""Share of zeros. SageMaker Debugger and torchdiag call a layer dead from 0.5 on."""
BASELINE_MARGIN: Final = 0.05
"""What a layer must lose beyond a freshly initialised network before its zeros count against it."""
SMALL_LAYER_SHARE: Final = 0.01
"""Layers below this share of a snapshot's elements do not decide the snapshot's status."""
SHIFTED_WASSERSTEIN: Final = 0.25
"""Reference standard deviations from which a column counts as shifted (warn)."""
CRITICAL_WASSERSTEIN: Final = 1.0
"""Reference standard deviations from which a slice's shift is critical."""
SIGNIFICANCE: Final = 0.05
"""Adjusted p-values below this count."""

NUM_BATCHES: Final = 8
"""Batches to recompute: their spread tells how far one batch can be trusted."""
MAX_SEED: Final = 2**32 - 1
"""What numpy takes."""
SOURCES: Final = ("auto", "stored", "recomputed", "optimizer")
"""Where gradients may come from; auto: stored where there are any, else recomputed."""

CONFIG_NAME: Final = "gradscope.toml"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Zero fractions (0..1) at which a layer is called warn, critical, collapsed."""

    warn: float = WARN
    critical: float = CRITICAL
    collapse: float = COLLAPSE

    def __post_init__(self) -> None:
        """Refuse limits that are not fractions in rising order."""
        if not 0 < self.warn <= self.critical <= self.collapse <= 1:
            message = (
                f"limits must rise from warn to collapse within 0..1, not warn={self.warn:g}, "
                f"critical={self.critical:g}, collapse={self.collapse:g}. "
                "Try warn=0.10,critical=0.25,collapse=0.50."
            )
            raise UsageError(message)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that changes a measure or a verdict; equal settings give equal results."""

    zero_tolerance: float = ZERO_TOLERANCE
    limits: Limits = field(default_factory=Limits)
    layer_limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Layer glob to the limits of its own."""
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Slice name to its selectors: "0:146", "position_*", "flat:1500:1510", "key:image"."""
    slices_from: str | None = None
    """config or option; None where nothing was set."""
    sequence_length: int | None = None
    feature_names: tuple[str, ...] | None = None
    layers: tuple[str, ...] = ()
    """Layer globs to measure; empty means all."""
    skip_layers: tuple[str, ...] = ()
    source: str = SOURCES[0]
    batches: int = NUM_BATCHES
    """How many to recompute per snapshot."""
    batch_size: int | None = None
    """Rows of a recomputed batch; None: the run's own."""
    seed: int = 0
    """Of numpy's and torch's random states, which draw batches and noise."""
    replay: Path | None = None
    """A replay buffer or batch file for every snapshot, in the place of those found beside them."""
    replay_keys: Mapping[str, str] = field(default_factory=dict)
    """Name that the loss of ``model`` asks for to the batch file's entry."""
    model: str | None = None
    """``package.module:function`` that gives (model, loss function of a batch)."""
    code: Path | None = None
    """Folder of the user's modules."""
    trust: bool = False
    """Whether the user's code, and classes that a file carries, may run."""

    def wants_layer(self, name: str) -> bool:
        """Whether ``--layer`` and ``--skip-layer`` leave this layer in."""
        if any(fnmatchcase(name, glob) for glob in self.skip_layers):
            return False
        return not self.layers or any(fnmatchcase(name, glob) for glob in self.layers)

    def limits_of(self, layer: str) -> Limits:
        """Limits of one layer: the last ``[layers."glob"]`` that fits, over the general ones.

        Raises:
            UsageError: the merged limits do not rise.
        """
        limits = self.limits
        for glob, own in self.layer_limits.items():
            if fnmatchcase(layer, glob):
                limits = replace(limits, **own)
        return limits


def read_config(path: Path) -> Mapping[str, Any]:
    """Tables of one gradscope.toml, or of ``[tool.gradscope]`` in a pyproject.toml.

    Raises:
        UsageError: the file is missing, not TOML, or not UTF-8.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror}. Check --config."
        raise UsageError(message) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"{path}: not valid TOML: {error}. See `gradscope help config`."
        raise UsageError(message) from error
    if path.name != "pyproject.toml":
        return document
    tool = document.get("tool")
    table = tool.get("gradscope", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise UsageError(f"{path}: [tool.gradscope] must be a table, not {table!r}.")
    return table


def find_config(*folders: Path) -> Path | None:
    """First gradscope.toml of the folders, else the first pyproject.toml that has a [tool.gradscope] table.

    Raises:
        UsageError: a pyproject.toml on the way is not TOML.
    """
    for folder in folders:
        if (folder / CONFIG_NAME).is_file():
            return folder / CONFIG_NAME
        project = folder / "pyproject.toml"
        # A broken pyproject.toml of somebody else's is not our business.
        if project.is_file() and b"gradscope" in project.read_bytes() and read_config(project):
            return project
    return None


KNOWN_TABLES: Final[dict[str, dict[str, None]]] = {
    "observation": dict.fromkeys(("sequence_length", "features")),
    "slices": {},
    "limits": dict.fromkeys(("warn", "critical", "collapse")),
    "layers": {},
}


def settings_from(tables: Mapping[str, Any], source: str) -> Settings:
    """Settings of one configuration file; ``source`` is its name, for errors.

    Raises:
        UsageError: an unknown table or key, or a value of the wrong type.
    """
    _check_keys(tables, source)
    observation = tables.get("observation", {})
    slices = {
        name: selectors_from(value, f"{source}: slices.{name}")
        for name, value in tables.get("slices", {}).items()
    }
    own = {
        glob: {key: _fraction(value, f'{source}: layers."{glob}".{key}') for key, value in table.items()}
        for glob, table in tables.get("layers", {}).items()
    }
    limits = {key: _fraction(value, f"{source}: {key}") for key, value in tables.get("limits", {}).items()}
    return Settings(
        limits=Limits(**limits),
        layer_limits=own,
        slices=slices,
        slices_from="config" if slices else None,
        sequence_length=_length(observation.get("sequence_length"), source),
        feature_names=_names(observation.get("features"), source),
    )


def selectors_from(value: object, where: str) -> tuple[str, ...]:
    """Column selectors of one slice: a string with commas, or a list of strings.

    Raises:
        UsageError: anything else, or nothing.
    """
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or not parts or not all(isinstance(part, str) for part in parts):
        raise UsageError(f'{where}: columns must be like "0:146" or ["position_*"], not {value!r}.')
    return tuple(part.strip() for part in parts)


def _check_keys(tables: Mapping[str, Any], source: str) -> None:
    for name, table in tables.items():
        known = _known(name, KNOWN_TABLES, source, "table")
        if not isinstance(table, dict):
            message = f"{source}: [{name}] must be a table, not {table!r}."
            raise UsageError(message)
        for key in table if known else ():
            _known(key, known, source, f"key in [{name}]")
        for glob, own in table.items() if name == "layers" else ():
            if not isinstance(own, dict):
                raise UsageError(f'{source}: [layers."{glob}"] must be a table, not {own!r}.')
            for key in own:
                _known(key, KNOWN_TABLES["limits"], source, f'key in [layers."{glob}"]')


def _known(name: str, known: Mapping[str, Any], source: str, kind: str) -> Any:
    if name not in known:
        near = get_close_matches(name, known, n=1)
        advice = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(sorted(known))}."
        message = f"{source}: unknown {kind}: {name!r}. {advice}"
        raise UsageError(message)
    return known[name]


def _fraction(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise UsageError(f"{where}: must be a fraction in 0..1, not {value!r}.")
    return float(value)


def _length(value: object, source: str) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        message = f"{source}: observation.sequence_length must be a positive whole number, not {value!r}."
        raise UsageError(message)
    return value


def _names(value: object, source: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        message = f"{source}: observation.features must be a list of names."
        raise UsageError(message)
    return tuple(value)
