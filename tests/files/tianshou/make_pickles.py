"""Pickles of tianshou 2.0's replay buffers, and what the library itself takes for their valid rows.

pip install torch tianshou; python make_pickles.py
"""

import pickle
from pathlib import Path

import numpy as np
from tianshou.data import Batch, PrioritizedReplayBuffer, ReplayBuffer, VectorReplayBuffer

HERE = Path(__file__).parent
NAMES = ("obs", "act", "rew", "obs_next", "terminated", "truncated", "done")


def step(number: int, environments: int | None) -> Batch:
    """One transition, or one of each environment, told by its values."""
    lead = () if environments is None else (environments,)
    here = number + 100 * np.arange(environments or 1).reshape(*lead, 1)
    here = np.broadcast_to(here, (*lead, 3)).astype(np.float32)
    terminated, truncated = number % 5 == 4, number % 7 == 6
    return Batch(
        obs=here,
        act=np.full(lead, number % 2) if lead else number % 2,
        rew=here[..., 0].astype(float) if lead else float(number),
        terminated=np.full(lead, terminated) if lead else terminated,
        truncated=np.full(lead, truncated) if lead else truncated,
        obs_next=here + 1,
        info=np.array([{}] * (environments or 1)) if lead else {},
    )


def save(name: str, buffer: ReplayBuffer) -> None:
    """The pickle, and its rows as the library orders them; those of a Dict observation by key."""
    (HERE / f"{name}.pkl").write_bytes(pickle.dumps(buffer))
    rows = buffer[buffer.sample_indices(0)]
    held = {}
    for each in NAMES:
        value = rows[each]
        held |= (
            {f"{each}.{key}": value[key] for key in value.get_keys()}
            if isinstance(value, Batch)
            else {each: np.asarray(value)}
        )
    np.savez(HERE / f"{name}.npz", **held)


def main() -> None:
    """Partial, full, prioritised, with keys, several environments in step and out of step."""
    keys = ReplayBuffer(10)
    for number in range(13):
        row = step(number, None)
        for name in ("obs", "obs_next"):
            row[name] = Batch(market=row[name], position=row[name][:1].astype(np.int64))
        keys.add(row)
    save("keys", keys)
    for name, rows in (("partial", 6), ("full", 14)):
        buffer = ReplayBuffer(10)
        for number in range(rows):
            buffer.add(step(number, None))
        save(name, buffer)
    prioritized = PrioritizedReplayBuffer(10, alpha=0.6, beta=0.4)
    for number in range(13):
        prioritized.add(step(number, None))
    save("prioritized", prioritized)
    for name, counts in (("vector_full", (9, 9, 9)), ("vector_uneven", (9, 3, 4))):
        vector = VectorReplayBuffer(12 if name == "vector_uneven" else 24, 3)
        for number in range(max(counts)):
            there = [each for each in range(3) if number < counts[each]]
            vector.add(step(number, 3)[there], buffer_ids=np.array(there))
        save(name, vector)


if __name__ == "__main__":
    main()
