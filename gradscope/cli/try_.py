"""``gradscope try``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradscope.cli.options import PathArgument, Shared, analysing

if TYPE_CHECKING:
    from gradscope.cli.work import Work
    from gradscope.records import TryReport

POSITION = "position"
INTERRUPTED = 130
"""As a shell calls a program that Ctrl-C ended."""


FromOption = Annotated[
    int | None, typer.Option("--from", metavar="STEP", help="Train on from this step's checkpoint. Needed.")
]
RemedyOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="slice-normalizer, input-layer-norm, slice-gradient-scale, slice-learning-rate, "
        "activity-learning-rate or recycle-dead-units; default all. Repeatable.",
    ),
]
StepsOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Default: as many as later buffers have rows for, at most 1,000."),
]
SeedsOption = Annotated[
    int, typer.Option(min=1, max=100, metavar="K", help="Trainings of each remedy, other batches in each.")
]


@analysing
def try_(
    path: PathArgument = None,
    from_: FromOption = None,
    remedy: RemedyOption = None,
    gradient_steps: StepsOption = None,
    seeds: SeedsOption = 3,
    *,
    shared: Shared,
) -> int:
    """Train on offline from a checkpoint, once as it was and once per remedy: which one helps on this run."""
    from gradscope.cli.settings_asked import selected_slice
    from gradscope.cli.terminal import check_outputs, emit, exit_code
    from gradscope.cli.work import work_on
    from gradscope.errors import UsageError
    from gradscope.run import check_slices
    from gradscope.show.try_document import try_document, try_frame, try_markdown
    from gradscope.show.try_screen import try_screen

    if from_ is None:
        raise UsageError(
            "try needs --from STEP: the checkpoint to train on from. `gradscope scan` lists steps."
        )
    check_outputs(shared)
    work = work_on([path] if path else [], shared, recompute=shared.fail_on is not None)
    check_slices(work.opened, [selected_slice(shared) or POSITION])
    if not work.report.snapshots:
        return exit_code(work.report, work.shared)
    asked = {"from_step": from_, "remedies": remedy or (), "gradient_steps": gradient_steps, "seeds": seeds}
    found = _found(work, shared, asked)
    emit(
        work.report,
        work.shared,
        lambda shown, look: try_screen(found, look, shown),
        lambda shown: try_document(found, shown),
        lambda _: try_frame(found),
        lambda _: try_markdown(found),
    )
    # What --replay and --model named has been trained on, whether or not the scan took gradients from it.
    asked_of_the_scan = replace(work.shared, replay=None, model=None)
    return INTERRUPTED if found.is_interrupted else exit_code(work.report, asked_of_the_scan)


def _found(work: Work, shared: Shared, asked: dict[str, Any]) -> TryReport:
    from gradscope.cli.settings_asked import selected_slice
    from gradscope.cli.terminal import complain, progress_bar
    from gradscope.run import one_run
    from gradscope.trial import tried

    opened = one_run(work.opened, shared.run)
    with progress_bar(shared) as progress:
        name = selected_slice(shared) or POSITION
        return tried(opened, name=name, announce=complain, progress=progress, **asked)
