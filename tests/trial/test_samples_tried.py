"""The README's trial on the collapsed sample, shorter: from where the units are dying."""

from __future__ import annotations

from pathlib import Path

from gradscope.records import TrialVerdict
from gradscope.run import open_run
from gradscope.settings import Settings
from gradscope.trial import tried

SAMPLES = Path(__file__).parents[2] / "sample_checkpoints"
PROJECTION = "q_net.features_extractor.temporal_projection.weight"
CURES = ("slice-normalizer", "input-layer-norm")


def test_a_norm_for_each_slice_cures_the_collapse_and_a_factor_on_gradients_does_not() -> None:
    opened = open_run(SAMPLES / "collapse", settings=Settings(trust=True, code=SAMPLES))
    report = tried(
        opened, from_step=8000, gradient_steps=60, remedies=[*CURES, "slice-gradient-scale"], seeds=3
    )
    by_name = {each.remedy: each for each in report.trials}
    none = by_name["none"]
    assert none.zero_fraction is not None
    assert none.zero_fraction > 0.3
    assert {each.limit for each in none.crossings if each.layer == PROJECTION} >= {"warn", "critical"}
    for name in CURES:
        assert by_name[name].verdict is TrialVerdict.HELPS, name
        (projection,) = (each for each in by_name[name].layers if each.name == PROJECTION)
        # The case hopes for zeros below 10 % with positions active.
        assert (projection.zero_fraction or 0) < 0.1, name
    scaled = by_name["slice-gradient-scale"]
    assert scaled.verdict is not TrialVerdict.HELPS
    assert "cancels" in scaled.reasons["note"]
    # Rows up to 8,240: four for each update, as in the run.
    assert (report.rows_per_update, report.to_step) == (4.0, 8240)
