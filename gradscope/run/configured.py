"""Which configuration file holds for the paths."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gradscope.settings import Settings, find_config, read_config, settings_from

if TYPE_CHECKING:
    from collections.abc import Sequence


def configured(paths: Sequence[Path], config: Path | None = None) -> Settings:
    """Settings of ``config``, else of the gradscope.toml or pyproject.toml in a PATH's folder or here.

    Raises:
        UsageError: the file is missing, or something in it is wrong.
    """
    folders = [path if path.is_dir() else path.parent for path in paths]
    found = config or find_config(*folders, Path.cwd())
    return settings_from(read_config(found), str(found)) if found else Settings()
