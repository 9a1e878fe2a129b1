"""``try`` as the JSON document, as Markdown and as a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gradscope.records.percent import UNKNOWN, percent
from gradscope.show.frames import encodable
from gradscope.show.json_document import plain
from gradscope.show.markdown import escaped, table
from gradscope.show.rows import number, points
from gradscope.show.try_screen import NONE, answer, crossing_words, limits_of
from gradscope.version import __version__

if TYPE_CHECKING:
    import pandas as pd

    from gradscope.records import Report, Trial, TryReport

TRY: Final = "gradscope/try/1"
BASE: Final = "the training as it was: nothing to compare with"
COLUMNS: Final = ("run", "from_step", "remedy", "gradient_step", "zero_fraction", "loss")
MEASURES: Final = ("zero_fraction", "difference", "interval", "loss", "verdict")


def try_document(report: TryReport, scanned: Report) -> dict[str, Any]:
    """The ``try --json`` document; every null has its reason."""
    body: dict[str, Any] = plain(report)
    body["trials"] = [_trial(each) for each in report.trials]
    body["unreadable"] = [plain(each) for each in scanned.unreadable]
    return {"schema": TRY, "gradscope": __version__, **body}


def try_markdown(report: TryReport) -> str:
    """The answer and a table; names from files are escaped."""
    heads = ("remedy", "zeros at the end", "points", "95 % interval", "limits crossed", "loss", "verdict")
    rows = [
        (
            each.remedy,
            percent(each.zero_fraction),
            "" if each.remedy == NONE else points(each.difference),
            UNKNOWN if each.interval is None else f"{points(each.interval[0])} to {points(each.interval[1])}",
            crossing_words(each.crossings) if each.series else UNKNOWN,
            number(each.loss),
            each.verdict.value if each.verdict else "",
        )
        for each in report.trials
    ]
    notes = [f"- {escaped(each)}" for each in (*report.notes, limits_of(report))]
    known = f"slice {report.slice} ({report.slices_from or 'not known'})"
    title = f"# gradscope try: {escaped(report.source)}, from step {report.from_step}, {escaped(known)}"
    return "\n\n".join([title, escaped(answer(report)), table(heads, rows), "\n".join(notes)]) + "\n"


def try_frame(report: TryReport) -> pd.DataFrame:
    """One row a remedy and point of its series."""
    import pandas as pd  # noqa: PLC0415  heavy, only where asked for

    rows = [
        (report.run, report.from_step, trial.remedy, point.gradient_step, point.zero_fraction, point.loss)
        for trial in report.trials
        for point in trial.series
    ]
    return pd.DataFrame(encodable(rows), columns=list(COLUMNS))


def _trial(each: Trial) -> dict[str, Any]:
    body: dict[str, Any] = plain(each)
    why = BASE if each.remedy == NONE else each.reasons.get("zero_fraction", "not known")
    missing = {key: why for key in MEASURES if body[key] is None}
    body["layers"] = [
        {key: value for key, value in layer.items() if key != "difference" or value is not None}
        for layer in body["layers"]
    ]
    return body | {"reasons": missing | dict(each.reasons)}
