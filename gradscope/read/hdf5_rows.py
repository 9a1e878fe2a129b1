"""In the child: which kind of replay an HDF5 file is, and where its rows lie in it.

Layouts: tianshou 2.0 (ReplayBuffer.save_hdf5), minari 0.5 and robomimic (a group for each episode),
d3rlpy 2.8 (datasets for each episode), and rows under usual names in the root or in one group (D4RL).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from gradscope.read import hdf5_tianshou
from gradscope.read.file_bytes import Foreign, Malformed
from gradscope.read.hdf5_plan import Plan, write
from gradscope.read.hdf5_tree import Leaf, Node, Tree, leaves, tree_of
from gradscope.read.rows import (
    ACTIONS,
    NAME_THEM,
    NEXT,
    NO_REPLAY,
    OBSERVATIONS,
    REWARDS,
    TERMINATIONS,
    listed,
    named_rows,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.read.native_output import Output

    Found = Mapping[str, Mapping[str, Leaf]]

MINARI: Final = "minari"
D3RLPY: Final = "d3rlpy-dataset"
OTHER: Final = "hdf5"
_EPISODE: Final = re.compile(r"(episode|demo|traj|trajectory|ep)[_-]?([0-9]{1,9})")
_OF_EPISODE: Final = re.compile(r"(observations|actions|rewards|terminated)_([0-9]{1,9})(?:_([0-9]{1,9}))?")


def write_rows(request: Mapping[str, Any], output: Output) -> dict[str, object]:
    """Rows of the file, written out.

    Raises:
        Foreign: none of its groups is a replay.
        Malformed: what should be one is none.
    """
    tree = tree_of(request["paths"][0])
    keys = {name: own.strip("/") for name, own in request["keys"].items()}
    plan = (
        hdf5_tianshou.planned(tree)
        or _d3rlpy(tree)
        or _episodes(tree.root, MINARI, keys)
        or _inner_episodes(tree, keys)
        or _plain(tree, keys)
    )
    return write(plan, tree, output)


def _d3rlpy(tree: Tree) -> Plan | None:
    """Terminal episodes end in an observation without a next; of others that row is no transition."""
    if not {"columns", "num_episodes", "observations_0"} <= {*tree.root, *_first_of_tuple(tree)}:
        return None
    episodes: dict[int, dict[str, dict[str, Leaf]]] = {}
    for name, leaf in tree.root.items():
        if isinstance(leaf, Leaf) and (found := _OF_EPISODE.fullmatch(name)):
            episode = episodes.setdefault(int(found[2]), {})
            episode.setdefault(found[1], {})[found[3] or ""] = leaf
    plan, left_out = Plan(format=D3RLPY), 0
    for number in sorted(episodes):
        found_here = episodes[number]
        count = _length(number, found_here.get(ACTIONS), found_here.get(REWARDS))
        if count == 0:
            continue
        ended = bool(tree.value(found_here["terminated"][""]).any()) if "terminated" in found_here else False
        used = count if ended else count - 1
        left_out += not ended
        observations = found_here.get(OBSERVATIONS, {})
        plan.add(OBSERVATIONS, observations, 0, used)
        plan.add(NEXT, observations, 1, count, zeros=int(ended))
        for name in (ACTIONS, REWARDS):
            plan.add(name, found_here.get(name, {}), 0, used)
        plan.add(TERMINATIONS, found_here.get("terminated", {}), 0, used, is_end=True)
    if left_out:
        plan.notes.append(
            f"{left_out} last rows of episodes without a terminal state are left out: no next row"
        )
    return plan


def _first_of_tuple(tree: Tree) -> set[str]:
    return {"observations_0"} if "observations_0_0" in tree.root else set()


def _inner_episodes(tree: Tree, keys: Mapping[str, str]) -> Plan | None:
    """robomimic: data/demo_0, data/demo_1, ..."""
    plans = [_episodes(child, OTHER, keys) for child in tree.root.values() if not isinstance(child, Leaf)]
    found = [plan for plan in plans if plan is not None]
    return found[0] if len(found) == 1 else None


def _episodes(group: Node, format_name: str, keys: Mapping[str, str]) -> Plan | None:
    """A group for each episode; observations may be one more than actions: the last is only a next one."""
    found = {
        int(match[2]): child
        for name, child in group.items()
        if (match := _EPISODE.fullmatch(name)) and not isinstance(child, Leaf)
    }
    if not found or ("episode_" not in next(iter(group)) and format_name == MINARI):
        return None
    plan = Plan(format=format_name)
    for number in sorted(found):
        rows = _named(found[number], keys)
        if not rows:
            continue
        observations = rows[OBSERVATIONS]
        others = {name: each for name, each in rows.items() if name not in {OBSERVATIONS, NEXT}}
        count, longest = _length(number, *others.values()), _length(number, observations)
        if longest not in {count, count + 1}:
            raise Malformed(f"has {longest} observations beside {count} rows in episode {number}")
        for name, each in ({OBSERVATIONS: observations} | others).items():
            plan.add(name, each, 0, count)
        if NEXT in rows:
            plan.add(NEXT, rows[NEXT], 0, count)
        elif longest == count + 1:
            plan.add(NEXT, observations, 1, count + 1)
    lengths = {sum(part.rows for part in parts) for parts in plan.parts.values()}
    if len(lengths) > 1:
        raise Malformed("has episodes that do not all have the same entries", NAME_THEM)
    return plan if plan.parts else None


def _plain(tree: Tree, keys: Mapping[str, str]) -> Plan:
    """Rows under usual names in one group, or under the names that the user gave."""
    place, group = _group(tree, keys)
    inside = {
        name: own[len(place) + 1 :] if place and own.startswith(f"{place}/") else own
        for name, own in keys.items()
    }
    rows = _named(group, inside)
    if not rows:
        raise Foreign(NO_REPLAY, NAME_THEM)
    count = _length(None, *rows.values())
    plan = Plan(format=OTHER)
    for name, each in rows.items():
        plan.add(name, each, 0, count)
    return plan


def _group(tree: Tree, keys: Mapping[str, str]) -> tuple[str, Node]:
    """The group that holds a replay: where the user's observations are, else the only one that has any."""
    if OBSERVATIONS in keys:
        place = keys[OBSERVATIONS].rpartition("/")[0]
        found = _at(tree.root, place)
        return ("", tree.root) if found is None else (place, found)
    candidates = [(place, node) for place, node in _groups(tree.root) if _named(node, {})]
    top = [each for each in candidates if not each[0]] or candidates
    if len(top) > 1:
        shown = listed(place for place, _ in top)
        advice = f"Name one: --replay-keys observations={top[0][0]}/NAME"
        raise Malformed(f"has replays in several groups: {shown}", advice)
    return top[0] if top else ("", tree.root)


def _groups(root: Node) -> list[tuple[str, Node]]:
    found: list[tuple[str, Node]] = [("", root)]
    for place, node in found:
        start = f"{place}/" if place else ""
        found += [(start + name, child) for name, child in node.items() if not isinstance(child, Leaf)]
    return found


def _at(node: Node, place: str) -> Node | None:
    for name in filter(None, place.split("/")):
        child = node.get(name)
        if child is None or isinstance(child, Leaf):
            return None
        node = child
    return node


def _named(group: Node, keys: Mapping[str, str]) -> Found:
    """Usual name -> datasets by key; names of the user may be paths below the group."""
    entries: dict[str, Node | Leaf] = dict(group)
    for own in keys.values():
        parent = _at(group, own.rpartition("/")[0])
        child = None if parent is None else parent.get(own.rpartition("/")[2])
        if child is not None:
            entries[own] = child
    return {name: dict(leaves(entries[own])) for name, own in named_rows(entries, keys).items()}


def _length(number: int | None, *found: Mapping[str, Leaf] | None) -> int:
    """Rows that all these datasets have."""
    lengths = {
        leaf.path: leaf.shape[0] if leaf.shape else 0 for each in found for leaf in (each or {}).values()
    }
    if len(set(lengths.values())) != 1:
        where = "" if number is None else f" in episode {number}"
        shown = ", ".join(f"{path[:60]!r} {rows}" for path, rows in list(lengths.items())[:8]) or "none"
        raise Malformed(f"has entries of different numbers of rows{where}: {shown}", NAME_THEM)
    return next(iter(lengths.values()))
