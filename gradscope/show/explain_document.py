"""``explain`` as the JSON document, as Markdown and as a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gradscope.records.percent import percent
from gradscope.show.explain_screen import headline, snapshot_of
from gradscope.show.explain_words import suspects
from gradscope.show.frames import encodable
from gradscope.show.json_document import plain
from gradscope.show.markdown import escaped, table
from gradscope.show.rows import sentence
from gradscope.version import __version__

if TYPE_CHECKING:
    import pandas as pd

    from gradscope.records import Explanation, Finding, Report

EXPLAIN: Final = "gradscope/explain/1"
NOTHING: Final = "nothing was measured, so nothing can be explained"
COLUMNS: Final = ("run", "step", "code", "verdict", "share_of_zeros", "layers", "reason", "what_to_do")


def explain_document(report: Report, explanation: Explanation | None) -> dict[str, Any]:
    """The ``explain --json`` document; without hypotheses where nothing was measured."""
    head: dict[str, Any] = {"schema": EXPLAIN, "gradscope": __version__}
    if explanation is None:
        why = dict.fromkeys(("run", "step", "source", "status", "zero_fraction"), NOTHING)
        empty: dict[str, Any] = dict.fromkeys(why)
        return head | empty | {"hypotheses": [], "units": [], "effects": [], "notes": [], "reasons": why}
    body: dict[str, Any] = plain(explanation)
    hypotheses = [_hypothesis(each) for each in explanation.findings]
    snapshot = snapshot_of(report, explanation)
    told = {
        "status": snapshot.status.value if snapshot else None,
        "zero_fraction": snapshot.zero_fraction if snapshot else None,
    }
    del body["findings"]
    reasons = {**body.pop("reasons")}
    if told["zero_fraction"] is None:
        known = snapshot.reasons if snapshot else {}
        reasons["zero_fraction"] = known.get("zero_fraction", NOTHING)
    if body["step"] is None:
        reasons["step"] = "the file does not tell its step"
    return head | body | told | {"hypotheses": hypotheses, "reasons": reasons}


def explain_markdown(report: Report, explanation: Explanation | None, slice_name: str = "position") -> str:
    """The answer, the three usual suspects, and a table of all hypotheses; names from files are escaped."""
    title = f"# gradscope explain: {escaped(report.path)}"
    if explanation is None:
        return f"{title}\n\n{sentence(NOTHING)}.\n"
    where = f"run {explanation.run}, step {explanation.step}, {explanation.source}"
    listed = [
        f"- **{escaped(sentence(each.name))}**: {each.verdict.value}. {escaped(sentence(each.text))}."
        for each in suspects(explanation, slice_name)
    ]
    rows = [
        (each.code, each.verdict.value, _share(each), each.reason, each.what_to_do)
        for each in explanation.findings
    ]
    heads = ("hypothesis", "verdict", "zeros", "reason", "what to do")
    answer = f"**Why:** {escaped(headline(explanation))}"
    return (
        "\n\n".join([title, escaped(sentence(where)), answer, "\n".join(listed), table(heads, rows)]) + "\n"
    )


def explain_frame(explanation: Explanation | None) -> pd.DataFrame:
    """One row a hypothesis."""
    import pandas as pd  # noqa: PLC0415  heavy, only where asked for

    if explanation is None:
        return pd.DataFrame(columns=list(COLUMNS))
    rows = [
        (
            explanation.run,
            explanation.step,
            each.code,
            each.verdict.value,
            each.share_of_zeros,
            " ".join(each.layers),
            each.reason,
            each.what_to_do,
        )
        for each in explanation.findings
    ]
    return pd.DataFrame(encodable(rows), columns=list(COLUMNS))


def _hypothesis(each: Finding) -> dict[str, Any]:
    body: dict[str, Any] = plain(each)
    missing = {} if each.share_of_zeros is not None else {"share_of_zeros": each.reason}
    return body | {"reasons": missing}


def _share(each: Finding) -> str:
    return "" if each.share_of_zeros is None else percent(each.share_of_zeros)
