"""``compare`` as the JSON document, as Markdown and as a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gradscope.records import ALL_LAYERS
from gradscope.show.compare_rows import (
    CROSSING_HEADS,
    LAYER_HEADS,
    SHIFT_HEADS,
    STEP_HEADS,
    alone,
    crossing_cells,
    layer_cells,
    run_words,
    shift_cells,
    shown_crossings,
    shown_layers,
    step_cells,
)
from gradscope.show.compare_words import verdict_title
from gradscope.show.frames import encodable
from gradscope.show.json_document import plain
from gradscope.show.markdown import escaped, table
from gradscope.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from gradscope.records import ComparedGradient, ComparedSnapshot, ComparedStep, Comparison, LayerPoint

COMPARE: Final = "gradscope/compare/1"
_SIDE: Final = ("zero_fraction", "unexpected_zero_fraction", "baseline_zero_fraction", "norm")
COLUMNS: Final = (
    *("step", "layer"),
    *(f"{key}_{side}" for key in (*_SIDE, "status") for side in ("a", "b")),
    *("difference", "difference_beyond_fresh", "verdict"),
)


def compare_document(found: Comparison) -> dict[str, Any]:
    """The ``compare --json`` document; every difference is B minus A."""
    body: dict[str, Any] = plain(found)
    return {"schema": COMPARE, "gradscope": __version__, "runs": [found.a.name, found.b.name]} | body


def compare_frame(found: Comparison) -> pd.DataFrame:
    """One row a layer and step, the pooled total as layer "*"; unknown is a missing value."""
    import pandas as pd  # noqa: PLC0415  heavy, only where asked for

    rows = [*(_row(step.step, ALL_LAYERS, step) for step in found.steps), *_layer_rows(found)]
    frame = pd.DataFrame(encodable(rows), columns=list(COLUMNS), dtype=object)
    texts = {"layer", "status_a", "status_b", "verdict"}
    types = {
        name: "string" if name in texts else "Int64" if name == "step" else "Float64" for name in COLUMNS
    }
    return frame.astype(types)


def compare_markdown(found: Comparison) -> str:
    """The verdict and the tables of the screen; names from files are escaped."""
    warnings = "\n".join(f"- {escaped(text)}" for text in found.warnings)
    notes = "\n".join(f"- {escaped(text)}" for text in found.notes)
    runs = "\n".join(
        f"- {escaped(run_words(letter, run))}" for letter, run in (("A", found.a), ("B", found.b))
    )
    only = [
        f"Only {letter} has {escaped(', '.join(names))}." for letter, names in alone(found).items() if names
    ]
    layers = [layer_cells(*each) for each in shown_layers(found)]
    crossed = [crossing_cells(each) for each in shown_crossings(found)]
    inputs = [shift_cells(each) for each in found.shift]
    parts = [
        f"# gradscope compare: {escaped(found.a.path)} and {escaped(found.b.path)}",
        runs,
        f"**{verdict_title(found.verdict)}.** {escaped(found.reason)}",
        warnings,
        table(STEP_HEADS, [step_cells(step) for step in found.steps]) if found.steps else "",
        f"## Layers that differ\n\n{table(LAYER_HEADS, layers)}" if layers else "",
        *only,
        f"## Crossings\n\n{table(CROSSING_HEADS, crossed)}" if crossed else "",
        f"## Inputs\n\n{table(SHIFT_HEADS, inputs)}" if inputs else "",
        notes,
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _layer_rows(found: Comparison) -> Iterator[dict[str, Any]]:
    for layer in found.layers:
        for point in layer.points:
            yield _row(point.step, layer.name, point)


def _row(step: int | None, layer: str, both: ComparedStep | LayerPoint) -> dict[str, Any]:
    own = {key: getattr(both, key) for key in ("difference", "difference_beyond_fresh")}
    sides = {
        f"{key}_{side}": value
        for side, one in (("a", both.a), ("b", both.b))
        for key, value in _side(one).items()
    }
    return {"step": step, "layer": layer} | sides | own | {"verdict": both.verdict.value}


def _side(one: ComparedSnapshot | ComparedGradient | None) -> dict[str, Any]:
    if one is None:
        return dict.fromkeys((*_SIDE, "status"))
    return {key: getattr(one, key) for key in _SIDE} | {"status": one.status.value}
