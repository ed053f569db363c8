"""Pictures of baselines."""

from __future__ import annotations

import io

from .measurements import Baseline


def baseline_plot(baseline: Baseline) -> bytes:
    """An SVG: every round of every figure that has rounds, with the median as a line. Equal input gives equal bytes."""
    import matplotlib as mpl  # noqa: PLC0415  # takes half a second, and no other command needs it
    from matplotlib.figure import Figure as Canvas  # noqa: PLC0415  # as above

    figures = [figure for figure in baseline.figures if len(baseline.samples(figure)) > 1]
    with mpl.rc_context({"svg.hashsalt": baseline.mode, "svg.fonttype": "none"}):
        canvas = Canvas(figsize=(8, 2.2 * len(figures)), layout="constrained")
        axes = canvas.subplots(len(figures), 1, squeeze=False)[:, 0]
        for axis, figure in zip(axes, figures, strict=True):
            samples = baseline.samples(figure)
            axis.plot(range(1, len(samples) + 1), samples, "o", markersize=3)
            axis.axhline(baseline.median(figure), linewidth=1)
            axis.set_ylim(bottom=0)
            axis.set_ylabel(f"{figure.name}\n{figure.unit}")
        axes[-1].set_xlabel("round")
        picture = io.BytesIO()
        canvas.savefig(picture, format="svg", metadata={"Date": None})
    return picture.getvalue()
