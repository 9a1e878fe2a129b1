"""The Markdown tables of README.md's remedies, from what try_remedies.py measured."""

from __future__ import annotations

from functools import partial
from statistics import mean, median, stdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Trainings = Sequence[Mapping[str, Any]]

NONE = "none"
FIRST_LAYERS = ("temporal_projection.weight", "mu.0.weight")


def tables(trainings: Trainings, remedies: Sequence[str]) -> str:
    """Two tables for each run: its gradients, and its agent."""
    parts = []
    for run in dict.fromkeys(each["run"] for each in trainings):
        by_remedy = {
            remedy: sorted(
                (each for each in trainings if (each["run"], each["remedy"]) == (run, remedy)),
                key=lambda each: each["seed"],
            )
            for remedy in remedies
        }
        there = {remedy: found for remedy, found in by_remedy.items() if found}
        parts += [f"{run}, gradients", gradients(there), f"{run}, agent", agent(there)]
    return "\n\n".join(parts)


def gradients(by_remedy: Mapping[str, Trainings]) -> str:
    """Zeros in per cent of each watched weight, and the norm before clipping."""
    first = next(iter(by_remedy.values()))[0]
    heads = ["remedy", "seeds"]
    columns: list[Callable[[Trainings], str]] = [lambda them: listed(them, lambda it: f"{it['seed']}")]
    for name in sorted(first["zeros"]):
        short = ".".join(name.removesuffix(".weight").split(".")[-2:]).removeprefix("features_extractor.")
        heads += [f"`{short}` at 6,000 / 8,000 / 10,000", "largest"]
        columns += [partial(at_checkpoints, name), partial(largest, name)]
    heads.append("below 10 %")
    columns.append(lambda them: listed(them, lambda it: "yes" if stays_below(it, 0.1) else "no"))
    for key in first["norms"]:
        heads.append(f"norm {key.removeprefix('policy_').replace('_', ' ')}")
        columns.append(partial(norms, key))
    return markdown(heads, by_remedy, columns)


def agent(by_remedy: Mapping[str, Trainings]) -> str:
    """Pooling, rewards, and their differences to the training without a remedy on the same seeds."""
    first = next(iter(by_remedy.values()))[0]
    heads, columns = ["remedy"], []
    if first["pooling"] is not None:
        heads += ["entropy at 5,000", "at 10,000", "moved"]
        columns += [
            partial(numbers, "pooling", "entropy_5000", digits=2),
            partial(numbers, "pooling", "entropy_10000", digits=2),
            partial(numbers, "pooling", "moved", digits=2),
        ]
    for key, words in (("reward_8000_10000", "reward in training"), ("reward_greedy", "greedy pass")):
        heads += [words, "minus `none`"]
        columns += [partial(numbers, key), partial(difference, by_remedy, key)]
    heads += ["hours long, %", "turns", "finite"]
    columns += [
        lambda them: listed(them, lambda it: f"{100 * it['greedy_long']:.0f}"),
        partial(numbers, "greedy_turns"),
        lambda them: "yes" if all(each["is_finite"] for each in them) else "NO",
    ]
    return markdown(heads, by_remedy, columns)


def markdown(
    heads: Sequence[str], by_remedy: Mapping[str, Trainings], columns: Sequence[Callable[[Trainings], str]]
) -> str:
    """A table with a row for each remedy."""
    rows = [[remedy, *(column(them) for column in columns)] for remedy, them in by_remedy.items()]
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def listed(them: Trainings, value: Callable[[Mapping[str, Any]], str]) -> str:
    """One value for each seed, or the one that all share."""
    values = [value(each) for each in them]
    return values[0] if len(set(values)) == 1 else ", ".join(values)


def numbers(*keys: Any, digits: int = 0) -> str:
    """What lies under the keys, for each seed."""
    *path, them = keys

    def value(training: Mapping[str, Any]) -> str:
        found: Any = training
        for key in path:
            found = found[key]
        return f"{found:.{digits}f}"

    return listed(them, value)


def at_checkpoints(name: str, them: Trainings) -> str:
    """Zeros of the first gradients at each checkpoint."""
    return " / ".join(
        listed(them, lambda it, n=number: percent(it["zeros"][name]["at"][n])) for number in range(3)
    )


def largest(name: str, them: Trainings) -> str:
    """After step 7,000: in the recorder's timeline; of a first layer also outside the slice's columns."""
    whole = listed(them, lambda it: percent(it["zeros"][name]["timeline_max_settled"]))
    if not name.endswith(FIRST_LAYERS):
        return whole
    others = listed(them, lambda it: percent(it["zeros"][name]["other_columns_max_settled"]))
    return f"{whole} ({others})"


def percent(fraction: float | None) -> str:
    """Two digits; 0 is exactly 0."""
    if not fraction:
        return "none" if fraction is None else "0"
    return f"{100 * fraction:.1f}" if fraction < 0.0995 else f"{100 * fraction:.0f}"


def stays_below(training: Mapping[str, Any], limit: float) -> bool:
    """Whether every watched weight does, in all rows of the timeline with positions."""
    return all((each["timeline_max_active"] or 0.0) < limit for each in training["zeros"].values())


def norms(key: str, them: Trainings) -> str:
    """Median over seeds of the median, and the largest of all."""
    middle, highest = median(each["norms"][key][0] for each in them), max(e["norms"][key][1] for e in them)
    return f"{middle:.3g} ({highest:.3g})"


def difference(by_remedy: Mapping[str, Trainings], key: str, them: Trainings) -> str:
    """Paired by seed: mean and standard deviation of what the remedy changed."""
    remedy = them[0]["remedy"]
    # Under SGD with the training under SGD at the same rate.
    reference = remedy.replace("slice-gradient-scale", NONE) if remedy.endswith("sgd") else NONE
    if remedy.startswith(NONE):
        reference = NONE
    without = {each["seed"]: each[key] for each in by_remedy.get(reference, [])}
    changes = [each[key] - without[each["seed"]] for each in them if each["seed"] in without]
    if remedy == NONE or not changes:
        return ""
    spread = f" ± {stdev(changes):.0f}" if len(changes) > 1 else ""
    return f"{mean(changes):+.0f}{spread}"
