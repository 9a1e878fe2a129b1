"""The screen of ``gradscope explain``: what it is, what it is not, what to do; one screenful."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from gradscope.records import Verdict
from gradscope.records.percent import percent
from gradscope.show.explain_words import found, shortened, suspects
from gradscope.show.rows import number, safe, sentence
from gradscope.show.screen import STYLES, Page

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradscope.records import Evidence, Explanation, Finding, Report, SnapshotGradient
    from gradscope.show.explain_words import Suspect
    from gradscope.show.screen import Look

LABEL_WIDTH: Final = 14
MOST_EVIDENCE: Final = 1
HARMLESS: Final = "expected-zeros"
SUSPECTS: Final = ("saturation", "domain-shift", "explosion-clipping")
"""Answered by name, so not listed again."""
VERDICT_STYLES: Final = {
    Verdict.SUPPORTED: "bold red",
    Verdict.REJECTED: "green",
    Verdict.NOT_TESTABLE: "magenta",
}


def explain_screen(
    report: Report, explanation: Explanation | None, look: Look, slice_name: str = "position"
) -> str:
    """Worst first: the finding that accounts for most zeros, the others, the three everyone suspects."""
    page = Page(look)
    page.line(f"gradscope explain {safe(report.path)}", "bold")
    if explanation is None:
        return page.text()
    snapshot = snapshot_of(report, explanation)
    names = [layer.name for layer in snapshot.layers] if snapshot is not None else []

    def plain(text: str) -> str:
        return safe(shortened(text, names))

    _add_subject(page, explanation, snapshot)
    add_why(page, explanation, plain)
    _add_suspects(page, suspects(explanation, slice_name), plain)
    _add_rest(page, explanation, plain)
    return page.text()


def snapshot_of(report: Report, explanation: Explanation) -> SnapshotGradient | None:
    """The snapshot that is explained."""
    key = (explanation.run, explanation.source)
    return next((each for each in report.snapshots if (each.run, each.source) == key), None)


def causes(explanation: Explanation) -> list[Finding]:
    """Supported findings that are a fault."""
    supported = (each for each in explanation.findings if each.verdict is Verdict.SUPPORTED)
    return [each for each in supported if each.code != HARMLESS]


def headline(explanation: Explanation) -> str:
    """The answer in one sentence."""
    found_causes = causes(explanation)
    if found_causes:
        first = found_causes[0]
        part = f" ({percent(first.share_of_zeros)} of the zeros)" if first.share_of_zeros else ""
        return f"{first.code}{part}. {sentence(first.reason)}."
    untested = sum(each.verdict is Verdict.NOT_TESTABLE for each in explanation.findings)
    if untested:
        return f"No hypothesis is supported; {untested} could not be tested."
    return "No hypothesis is supported: there is no fault to explain."


def why_words(report: Report, explanation: Explanation) -> str:
    """The answer and what to do, for a page that has other things to say."""
    snapshot = snapshot_of(report, explanation)
    names = [layer.name for layer in snapshot.layers] if snapshot is not None else []
    found_causes = causes(explanation)
    todo = f" {found_causes[0].what_to_do}" if found_causes else ""
    return shortened(f"{sentence(headline(explanation))}{todo}", names)


def add_why(page: Page, explanation: Explanation, plain: Callable[[str], str]) -> None:
    """The answer, what to do, and what else is supported."""
    found_causes = causes(explanation)
    page.line()
    page.line(plain(f"Why: {headline(explanation)}"), "bold")
    if found_causes and found_causes[0].what_to_do:
        page.line(plain(f"Do: {found_causes[0].what_to_do}"))
    for each in _strongest(found_causes[0].evidence) if found_causes else []:
        page.bullet(plain(_measured(each)), "dim")
    if len(found_causes) > 1:
        _add_rows(page, [(each.code, plain(_counted(each))) for each in found_causes[1:]])


def _add_subject(page: Page, explanation: Explanation, snapshot: SnapshotGradient | None) -> None:
    run = "" if explanation.run == "." else f"run {safe(explanation.run)}, "
    step = f"step {explanation.step:,}" if explanation.step is not None else safe(explanation.source)
    if snapshot is None:
        page.line(f"{run}{step}", "dim")
        return
    if snapshot.zero_fraction is None:
        page.line(f"{run}{step}: unknown, there are no gradients", STYLES[snapshot.status])
        return
    batches = f"{snapshot.num_batches} batch" + ("" if snapshot.num_batches == 1 else "es")
    size = f" of {snapshot.batch_size}" if snapshot.batch_size else ""
    page.line(
        f"{run}{step}: {snapshot.status.value}, {percent(snapshot.zero_fraction)} of all gradients are zero "
        f"({snapshot.origin.value}, {batches}{size})",
        STYLES[snapshot.status],
    )


def _add_suspects(page: Page, known: Sequence[Suspect], plain: Callable[[str], str]) -> None:
    page.heading("The three usual suspects")
    for each in known:
        line = Text(page.plain(f"{sentence(each.name)}: "))
        line.append(each.verdict.value, VERDICT_STYLES[each.verdict])
        line.append(page.plain(f". {sentence(plain(each.text))}."))
        page.table(line)


def _add_rest(page: Page, explanation: Explanation, plain: Callable[[str], str]) -> None:
    """What lost, by name; what could not be tested, with why and how."""
    rest = [each for each in explanation.findings if each.code not in SUSPECTS]
    lost = [each.code for each in rest if each.verdict is Verdict.REJECTED]
    untested = [each for each in rest if each.verdict is Verdict.NOT_TESTABLE]
    rows = [("Also rejected", ", ".join(lost))] if lost else []
    if untested:
        codes = ", ".join(each.code for each in untested)
        how = next((each.what_to_do for each in untested if each.what_to_do), f"{untested[0].reason}.")
        rows.append(("Not testable", plain(f"{codes}. {how}")))
    harmless = found(explanation, HARMLESS)
    if harmless is not None and harmless.verdict is Verdict.SUPPORTED:
        rows.append(("No fault", plain(f"{HARMLESS}: {harmless.reason}.")))
    _add_rows(page, rows)
    for note in explanation.notes:
        page.bullet(plain(note), "dim")


def _strongest(evidence: Sequence[Evidence]) -> list[Evidence]:
    """The first that reach their limits."""
    return [each for each in evidence if _reaches(each)][:MOST_EVIDENCE]


def _measured(each: Evidence) -> str:
    """A number, its limit, and where the limit comes from."""
    source = f": {each.source}" if each.source else ""
    limit = f" (limit {number(each.limit)}{source})" if each.limit is not None else ""
    return f"{each.measure}: {number(each.value)}{limit}"


def _reaches(each: Evidence) -> bool:
    if each.value is None or each.limit is None:
        return False
    return each.value <= each.limit if each.limit < 0 else each.value >= each.limit


def _counted(each: Finding) -> str:
    part = f"{percent(each.share_of_zeros)} of zeros: " if each.share_of_zeros else ""
    return f"{part}{each.reason}."


def _add_rows(page: Page, rows: Sequence[tuple[str, str]]) -> None:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=LABEL_WIDTH, no_wrap=True)
    grid.add_column(ratio=1, overflow="fold")
    for label, text in rows:
        grid.add_row(label, Text(page.plain(text)))
    if rows:
        page.table(grid)
