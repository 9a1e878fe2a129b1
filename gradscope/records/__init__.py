"""The nouns: what is opened (opened.py), collected, measured and found (the files of these names).

Frozen records without logic. ``None`` means not measured and has its reason in ``reasons``
under the same name; it is never 0. Fractions are 0..1.
"""

from gradscope.records.anatomy import DeadSince, ZeroDetails
from gradscope.records.collected import Normalizer, Replay, Ring, Rollout
from gradscope.records.explained import Effect, Evidence, Explanation, Finding, UnitActivity, Verdict
from gradscope.records.found import (
    Association,
    AssociationReport,
    ColumnShift,
    Report,
    SeriesPoint,
    ShiftReport,
    SliceShift,
    StepShift,
)
from gradscope.records.measured import (
    ALL_LAYERS,
    Crossing,
    LayerGradient,
    LeftOut,
    OptimizerEvidence,
    ReplayFile,
    SnapshotGradient,
    Status,
    TimelineFile,
    ZeroAnatomy,
    ZeroCount,
)
from gradscope.records.opened import (
    ROLLOUT_SCHEMA,
    SNAPSHOT_SCHEMA,
    TIMELINE_SCHEMA,
    Clipping,
    Layer,
    Observed,
    Origin,
    Slice,
    Snapshot,
    Timeline,
    TimelineLayer,
)
from gradscope.records.tried import Trial, TrialCrossing, TrialLayer, TrialPoint, TrialVerdict, TryReport

__all__ = [
    "ALL_LAYERS",
    "ROLLOUT_SCHEMA",
    "SNAPSHOT_SCHEMA",
    "TIMELINE_SCHEMA",
    "Association",
    "AssociationReport",
    "Clipping",
    "ColumnShift",
    "Crossing",
    "DeadSince",
    "Effect",
    "Evidence",
    "Explanation",
    "Finding",
    "Layer",
    "LayerGradient",
    "LeftOut",
    "Normalizer",
    "Observed",
    "OptimizerEvidence",
    "Origin",
    "Replay",
    "ReplayFile",
    "Report",
    "Ring",
    "Rollout",
    "SeriesPoint",
    "ShiftReport",
    "Slice",
    "SliceShift",
    "Snapshot",
    "SnapshotGradient",
    "Status",
    "StepShift",
    "Timeline",
    "TimelineFile",
    "TimelineLayer",
    "Trial",
    "TrialCrossing",
    "TrialLayer",
    "TrialPoint",
    "TrialVerdict",
    "TryReport",
    "UnitActivity",
    "Verdict",
    "ZeroAnatomy",
    "ZeroCount",
    "ZeroDetails",
]
