"""``gradscope try``."""

from __future__ import annotations

from typing import Annotated

import typer

from gradscope.cli.options import PathArgument, Shared, analysing

INTERRUPTED = 130
"""As a shell calls a program that Ctrl-C ended."""


@analysing
def try_(
    path: PathArgument = None,
    from_: Annotated[
        int | None,
        typer.Option("--from", metavar="STEP", help="Train on from this step's checkpoint. Needed."),
    ] = None,
    remedy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="slice-normalizer, input-layer-norm, slice-gradient-scale, slice-learning-rate, "
            "activity-learning-rate or recycle-dead-units; default all. Repeatable.",
        ),
    ] = None,
    gradient_steps: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Default: as many as later buffers have rows for, at most 1,000."
        ),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(min=1, max=100, metavar="K", help="Trainings of each remedy, other batches in each."),
    ] = 3,
    *,
    shared: Shared,
) -> int:
    """Train on offline from a checkpoint, once as it was and once per remedy: which one helps on this run."""
    from gradscope.cli.settings_asked import selected_slice
    from gradscope.cli.terminal import check_outputs, complain, emit, exit_code, progress_bar
    from gradscope.cli.work import work_on
    from gradscope.errors import UsageError
    from gradscope.run import check_slices, one_run
    from gradscope.show.try_document import try_document, try_frame, try_markdown
    from gradscope.show.try_screen import try_screen
    from gradscope.trial import tried

    if from_ is None:
        raise UsageError(
            "try needs --from STEP: the checkpoint to train on from. `gradscope scan` lists steps."
        )
    check_outputs(shared)
    name = selected_slice(shared) or "position"
    work = work_on([path] if path else [], shared, recompute=False)
    check_slices(work.opened, [name])
    if not work.report.snapshots:
        return exit_code(work.report, work.shared)
    opened = one_run(work.opened, shared.run)
    with progress_bar(shared) as progress:
        found = tried(
            opened,
            from_step=from_,
            remedies=remedy or (),
            gradient_steps=gradient_steps,
            seeds=seeds,
            name=name,
            announce=complain,
            progress=progress,
        )
    emit(
        work.report,
        work.shared,
        lambda shown, look: try_screen(found, look, shown.path),
        lambda _: try_document(found),
        lambda _: try_frame(found),
        lambda _: try_markdown(found),
    )
    return INTERRUPTED if found.is_interrupted else exit_code(work.report, work.shared)
