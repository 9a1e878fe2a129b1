"""Which algorithm wrote an SB3 zip: the zip does not say, its policy class and settings do."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final

from gradscope.read.file_bytes import Malformed
from gradscope.read.pickle_stubs import is_text_keyed
from gradscope.read.safe_pickle import unpickled

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BLOB: Final = 1 << 20
NEVER_CLIPS: Final = frozenset({"SAC", "TD3", "DDPG", "TQC", "CrossQ"})
_BY_MODULE: Final[Mapping[str, str]] = {
    "sb3_contrib.tqc": "TQC",
    "sb3_contrib.qrdqn": "QRDQN",
    "sb3_contrib.crossq": "CrossQ",
    "sb3_contrib.common.maskable": "MaskablePPO",
    "sb3_contrib.common.recurrent": "RecurrentPPO",
    "sb3_contrib.ars": "ARS",
    "stable_baselines3.sac": "SAC",
    "stable_baselines3.td3": "TD3",
    "stable_baselines3.dqn": "DQN",
}
_BY_SETTING: Final[Mapping[str, str]] = {
    "top_quantiles_to_drop_per_net": "TQC",
    "target_entropy": "SAC",
    "policy_delay": "TD3",
    "n_quantiles": "QRDQN",
    "exploration_fraction": "DQN",
    "cg_max_steps": "TRPO",
    "clip_range": "PPO",
    "gae_lambda": "A2C",
}
"""The first that a zip has decides, where the policy class is the user's own."""


def algorithm_of(data: Mapping[str, object]) -> str | None:
    """Name of the algorithm class, or None where nothing points to one."""
    names = _policy_names(data.get("policy_class"))
    found = next((name for module, name in _BY_MODULE.items() if any(map_is(module, n) for n in names)), None)
    found = found or next((name for key, name in _BY_SETTING.items() if key in data), None)
    if found == "TD3" and data.get("policy_delay") == 1 and _num_critics(data) == 1:
        return "DDPG"
    return found


def map_is(module: str, name: str) -> bool:
    """Whether a dotted name lies in a module."""
    return name == module or name.startswith(f"{module}.")


def _num_critics(data: Mapping[str, object]) -> object:
    settings = data.get("policy_kwargs")
    return settings.get("n_critics") if is_text_keyed(settings) else None


def _policy_names(blob: object) -> tuple[str, ...]:
    """Module of the policy class and the names its pickle refers to; nothing of it is loaded."""
    if not is_text_keyed(blob):
        return ()
    module = blob.get("__module__")
    names = (module,) if isinstance(module, str) else ()
    encoded = blob.get(":serialized:")
    if not isinstance(encoded, str) or len(encoded) > MAX_BLOB:
        return names
    try:
        return (*names, *unpickled(base64.b64decode(encoded), {}).unknown)
    except (Malformed, binascii.Error, ValueError):
        return names
