"""Options on the command line become Settings; a wrong value is one line that names it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradscope.errors import UsageError
from gradscope.settings import Limits, Settings, selectors_from

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gradscope.cli.options import Shared


def settings_of(shared: Shared, paths: Sequence[Path]) -> Settings:
    """Configuration file first, then the options over it.

    Raises:
        UsageError: a value is wrong; the line names it.
    """
    from gradscope.run.configured import configured

    settings = configured(paths, shared.config)
    slices = defined_slices(shared.slice_)
    changes: dict[str, Any] = {
        "zero_tolerance": shared.zero_tolerance,
        "sequence_length": shared.sequence_length,
        "layers": tuple(shared.layer or ()) or None,
        "skip_layers": tuple(shared.skip_layer or ()) or None,
        "limits": _limits(shared.limit, settings.limits) if shared.limit else None,
        "slices": {**settings.slices, **slices} if slices else None,
        "slices_from": "option" if slices else None,
        **{name: getattr(shared, name) for name in ("batches", "batch_size", "seed", "model", "code")},
        "source": str(shared.source) if shared.source else None,
        "replay": shared.replay,
        "replay_keys": _keys(shared.replay_keys, shared.model) if shared.replay_keys else None,
        "trust": shared.trust or None,
    }
    _check_consent(shared)
    if shared.zero_tolerance is not None and not 0 <= shared.zero_tolerance < float("inf"):
        raise UsageError(f"--zero-tolerance {shared.zero_tolerance}: must be 0 or more, like 1e-8.")
    return replace(settings, **{key: value for key, value in changes.items() if value is not None})


def _keys(text: str, model: str | None) -> dict[str, str]:
    """Names are the usual ones of a replay, or with ``--model`` those that its loss takes."""
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name.strip() and key.strip() for name, _, key in pairs):
        raise UsageError(f"--replay-keys {text}: write NAME=KEY,NAME=KEY, like x=inputs,y=labels.")
    keys = {name.strip(): key.strip() for name, _, key in pairs}
    if model is None:
        from gradscope.read.rows import USUAL, usual_keys

        unknown = [name for name in keys if not usual_keys({name: ""}).keys() <= USUAL.keys()]
        if unknown:
            raise UsageError(
                f"--replay-keys {text}: {unknown[0]!r} is no name of a replay's entries. "
                f"Names: {', '.join(USUAL)}."
            )
    return keys


def _check_consent(shared: Shared) -> None:
    for name in ("model", "code"):
        if getattr(shared, name) is not None and not shared.trust:
            raise UsageError(f"--{name} runs code of your own: add --trust to say that it may.")
    if shared.code is not None and not shared.code.is_dir():
        raise UsageError(f"--code {shared.code}: no such folder. Name the folder that holds your modules.")
    module, colon, function = (shared.model or "a:b").partition(":")
    if not (module and colon and function.isidentifier()):
        raise UsageError(f"--model {shared.model}: write package.module:function.")
    if shared.replay is not None and not shared.replay.exists():
        raise UsageError(f"--replay {shared.replay}: no such file or folder.")


def defined_slices(options: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
    """Slices that ``--slice NAME=COLUMNS`` defines; a bare NAME defines none.

    Raises:
        UsageError: a name or columns are empty.
    """
    slices = {}
    for option in options or ():
        name, equals, columns = option.partition("=")
        if not name.strip() or (equals and not columns.strip()):
            raise UsageError(f"--slice {option}: write NAME=COLUMNS, like position=146:153.")
        if equals:
            slices[name.strip()] = selectors_from(columns, f"--slice {name.strip()}")
    return slices


def selected_slice(shared: Shared) -> str | None:
    """The slice the last ``--slice`` names, by definition or alone."""
    return shared.slice_[-1].partition("=")[0].strip() if shared.slice_ else None


def bare_slices(shared: Shared) -> list[str]:
    """Slices that ``--slice NAME`` selects without defining them."""
    return [option.strip() for option in shared.slice_ or () if "=" not in option]


def _limits(text: str, limits: Limits) -> Limits:
    values = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        if name.strip() not in vars(limits):
            raise UsageError(
                f"--limit {text}: unknown limit {name.strip()!r}. Known: {', '.join(vars(limits))}."
            )
        try:
            values[name.strip()] = float(value)
        except ValueError as error:
            raise UsageError(f"--limit {text}: {value.strip()!r} is no number. Try {name}=0.25.") from error
    return replace(limits, **values)
