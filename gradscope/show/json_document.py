"""Reports as the JSON documents other programs rely on, and back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Any, Final

from gradscope.errors import UsageError
from gradscope.records import AssociationReport, Report, ShiftReport, Status
from gradscope.show.rebuilt import rebuilt
from gradscope.version import __version__

SCAN: Final = "gradscope/scan/1"
SHIFT: Final = "gradscope/shift/1"
CORRELATE: Final = "gradscope/correlate/1"
REPORT: Final = "gradscope/report/1"


def scan_document(report: Report) -> dict[str, Any]:
    """The ``scan --json`` document."""
    body: dict[str, Any] = plain(report)
    for key in ("shift", "associations"):
        del body[key]
    return {"schema": SCAN, "gradscope": __version__} | body


def shift_document(report: Report) -> dict[str, Any]:
    """The ``shift --json`` document; the first run's reference stands at the top."""
    shift = report.shift or ShiftReport()
    keys = ("run", "source", "step", "num_rows")
    references = [{key: getattr(step, key) for key in keys} for step in shift.steps if step.is_reference]
    body = plain(shift)
    if not references:
        why = next(iter(shift.reasons.values()), "no step has inputs")
        body["reasons"].setdefault("reference", why)
    return {
        "schema": SHIFT,
        "reference": references[0] if references else None,
        "references": references,
        "slices_from": body["slices_from"],
        "slices": body["slices"],
        "steps": body["steps"],
        "reasons": body["reasons"],
    }


def correlate_document(report: Report) -> dict[str, Any]:
    """The ``correlate --json`` document of the one run chosen; empty where nothing could be read."""
    nothing = AssociationReport(
        slice="", run="", num_steps=0, source="nothing", reason="nothing could be read"
    )
    association = report.associations[0] if report.associations else nothing
    body: dict[str, Any] = plain(association)
    return {"schema": CORRELATE} | body


def report_document(report: Report) -> dict[str, Any]:
    """Everything in one document: what ``report -o FILE.json`` writes and ``report FILE.json`` shows."""
    return {
        "schema": REPORT,
        "scan": scan_document(report),
        "shift": shift_document(report) if report.shift else None,
        "correlate": [{"schema": CORRELATE} | plain(each) for each in report.associations],
    }


def as_json(document: Mapping[str, Any]) -> str:
    """Indented JSON; a NaN would be our mistake and raises."""
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def report_from(document: Mapping[str, Any], source: str) -> Report:
    """The report that ``scan --json`` or ``report -o FILE.json`` wrote.

    Raises:
        UsageError: the document is of another schema, or its content does not fit it.
    """
    schema = document.get("schema") if isinstance(document, Mapping) else None
    try:
        if schema == SCAN:
            return _checked(rebuilt(Report, document))
        if schema == REPORT:
            report = _checked(rebuilt(Report, document["scan"]))
            shift = rebuilt(ShiftReport, document["shift"]) if document["shift"] else None
            together = tuple(rebuilt(AssociationReport, each) for each in document["correlate"])
            return dataclasses.replace(report, shift=shift, associations=together)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{source}: damaged {schema} document: {error!r}. Write it again.") from error
    raise UsageError(f"{source}: not a gradscope result: schema {schema!r}. Expected {SCAN} or {REPORT}.")


def _checked(report: Report) -> Report:
    for crossing in report.crossings:
        Status(crossing.limit)  # raises where it is none that a screen could color
    return report


_AS_THEY_ARE: Final = frozenset({str, int, float, bool, type(None)})


@cache
def _field_names(kind: type) -> tuple[str, ...]:
    """Of a record; none of anything else."""
    return tuple(each.name for each in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else ()


def plain(value: Any) -> Any:
    """A record as what JSON holds: dicts, lists, strings, numbers."""
    kind: Any = type(value)
    if kind in _AS_THEY_ARE:
        return value
    names = _field_names(kind)
    if names:
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value
