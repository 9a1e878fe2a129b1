"""Which number of a file's or folder's name counts training: names as libraries and people write them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

_BEFORE: Final = r"(?:^|[^a-z0-9])"
_DIGITS: Final = r"-?[0-9]+(?:\.[0-9]+(?=[km]|e[0-9]))?"
_UNIT: Final = r"(?:[km]|e\+?[0-9]{1,2})?"
_NUMBER: Final = rf"[-_=.]?({_DIGITS}{_UNIT})(?![0-9a-z]|\.[0-9])"
"""2000, 500k, 1.2m, 1e6; letters right behind make it part of a hash or a word."""
_STEPS: Final = re.compile(rf"(?:^|(?<!epoch)[^a-z0-9.])({_DIGITS}{_UNIT})[-_]?(?:time|env)?steps?(?![a-z=])")
_STEP: Final = re.compile(_BEFORE + r"(?:global|train|env|time)?[-_]?steps?" + _NUMBER)
_CHECKPOINT: Final = re.compile(_BEFORE + r"(?:ckpt|checkpoint|model)" + _NUMBER)
_COUNTER: Final = re.compile(
    _BEFORE + r"(?:iteration|iter|itr|it|update|upd|frame|timestep|ts|round|gen|generation)s?" + _NUMBER
)
_EPOCH: Final = re.compile(_BEFORE + r"(?:epoch|ep|episode|eps)s?" + _NUMBER)
_COUNTED: Final = re.compile(
    rf"(?:^|[^a-z0-9.])({_DIGITS}{_UNIT})[-_]?(?:frame|iteration|iter|update|epoch|episode)s?(?![a-z=])"
)
_EPOCH_AND_STEP: Final = re.compile(r"^(?:checkpoint_([0-9]+)_|ep([0-9]+)-ba)([0-9]{2,})(?:_milestone)?$")
"""checkpoint_2_500 (fairseq, Sample Factory), ep1-ba100-rank0 (Composer): the second number is finer."""
_TRAILING: Final = re.compile(rf"(?:^|[-_=.])([0-9]+(?:\.[0-9]+(?=[km]|e[0-9]))?{_UNIT})$")
_LEADING: Final = re.compile(r"^([0-9]+)[-_][a-z]")
_MOST_WORDS: Final = 2
"""Before what a folder counts: rl_model_2000_steps; a longer name tells of other things first."""
_GLUED: Final = re.compile(r"[a-z][0-9]")
_ONLY_DIGITS: Final = re.compile(r"([0-9]{3,})$|([0-9]+)_(?:checkpoint|finish|except)$")
"""Of a folder; 0, 1, 2 are seeds or trials rather than steps. Words of PFRL tell that they are none."""
_IS_NO_STEP: Final = (
    # Dates and times of day: 2024-05-01_12-30, 20240501T123000, May01_12-30-05.
    re.compile(
        r"(?<![0-9])(?:19|20)[0-9]{2}([-_.]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12][0-9]|3[01])"
        r"(?:[-_.t ]{0,2}[0-2][0-9][-_.:h]?[0-5][0-9](?:[-_.:m]?[0-5][0-9])?)?(?![0-9])"
    ),
    re.compile(
        r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[0-9]{1,2}[-_][0-9]{2}[-_][0-9]{2}[-_][0-9]{2}"
    ),
    # Unix times in seconds (2014 to 2033) and milliseconds.
    re.compile(r"(?<![0-9])(?:1[4-9]|20)[0-9]{8}(?:[0-9]{3})?(?![0-9])"),
    # UUIDs, and hashes: eight or more of 0-9a-f with a letter among them.
    re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
    re.compile(
        r"(?<![a-z0-9])(?=[0-9]*[a-f][0-9a-f]*[0-9]|[a-f]*[0-9][0-9a-f]*[a-f])[0-9a-f]{7,}(?![a-z0-9])"
    ),
    # Shards of one checkpoint: model-00001-of-00002, __0_0 (torch.distributed).
    re.compile(r"[0-9]+-of-[0-9]+"),
    re.compile(r"^__[0-9]+_[0-9]+$"),
    # What is numbered beside training.
    re.compile(
        _BEFORE
        + r"(?:seed|s|run|exp|experiment|fold|rank|worker|version|ver|v|trial|env|gpu|job|agent_id|part|"
        r"shard|fsdp|lr|gamma|alpha|beta|tau|dim|hidden|layer|head|bs|batch_?size|net|copy)s?[-_=.]?[0-9][0-9.]*"
        r"(?:e-?[0-9]+)?(?![0-9a-z])"
    ),
    # Scores: val_loss=0.32, reward_-120.5, acc93.2; and whatever has a decimal point and no unit.
    re.compile(
        _BEFORE
        + r"(?:[a-z]+_)?(?:loss|acc|accuracy|reward|rew|return|ret|score|auc|f1|mse|mae|elo|sharpe|profit)"
        r"[-_=]?-?[0-9]+(?:\.[0-9]+)?"
    ),
    re.compile(r"(?<![0-9])-?[0-9]+\.[0-9]+(?![0-9]*(?:[km]|e[0-9]+)(?![a-z]))(?![0-9])"),
)


@dataclass(frozen=True, kw_only=True)
class Told:
    """A number found in a name."""

    digits: str
    """Decimal, with a minus where there is one; not yet known to be sane."""
    is_explicit: bool
    """The name says step, checkpoint or model: it can contradict the content."""
    counts_something: bool
    """Some word before or behind it says what it counts, or it is all there is."""


def told_by(name: str, *, is_folder: bool = False) -> Told | None:
    """The number that counts training in a name; None where none does.

    Numbers that say what they count win over others, steps over updates over epochs. Dates, times, seeds,
    versions, shards, hashes and scores are no steps.
    """
    stem = name.lower() if is_folder else re.sub(r"\.[a-z][a-z0-9]*$", "", name.lower())
    for pattern in (_STEPS, _STEP):
        if (found := pattern.search(stem)) and not (is_folder and _is_aside(stem, found)):
            return _told(found[1], is_explicit=True)
    for pattern in _IS_NO_STEP:
        stem = pattern.sub("_", stem)
    stem = stem.rstrip("-_. ")
    both = _EPOCH_AND_STEP.search(stem)
    if both and _size(both[1] or both[2]) <= _size(both[3]):
        return _told(both[3], is_explicit=True)
    for pattern, is_explicit in ((_CHECKPOINT, True), (_COUNTER, False), (_EPOCH, False), (_COUNTED, False)):
        if (found := pattern.search(stem)) and not (is_folder and _is_aside(stem, found)):
            # A model of a folder's name is a model, not a checkpoint of it: model_3/, but checkpoint-3/.
            is_model = is_folder and "model" in found[0]
            return _told(found[1], is_explicit=is_explicit, counts_something=not is_model)
    if is_folder:
        found = _ONLY_DIGITS.match(stem)
        return _told(found[1] or found[2], is_explicit=False) if found else None
    found = _TRAILING.search(stem) or _LEADING.search(stem)
    return _told(found[1], is_explicit=False, counts_something=False) if found else None


def _size(digits: str) -> tuple[int, str]:
    """Orders numbers: Python refuses to read one of thousands of digits."""
    bare = digits.lstrip("0")
    return len(bare), bare


def _is_aside(stem: str, found: re.Match[str]) -> bool:
    """Whether a folder's name says other things first, or glues a number to the last of several words."""
    words = len(re.findall(r"[a-z0-9]+", stem[: found.start()]))
    return words > _MOST_WORDS or (words > 0 and _GLUED.search(found[0]) is not None)


def _told(text: str, *, is_explicit: bool, counts_something: bool = True) -> Told | None:
    digits = _in_full(text)
    if digits is None:
        return None
    # Rounded numbers (1.2M, 1e6) cannot contradict exact ones.
    is_exact = digits == text
    return Told(digits=digits, is_explicit=is_explicit and is_exact, counts_something=counts_something)


def _in_full(text: str) -> str | None:
    """2000 for 2000 and 2k, 1200000 for 1.2m, 1000000 for 1e6; None where that is no whole number."""
    if text.lstrip("-").isdigit():
        return text
    mantissa, _, exponent = text.partition("e")
    unit = {"k": 3, "m": 6}.get(text[-1], 0)
    value = Decimal(mantissa.rstrip("km")).scaleb(unit + int(exponent or 0))
    return str(int(value)) if value == value.to_integral_value() else None
