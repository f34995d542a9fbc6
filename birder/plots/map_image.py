"""Plots of a collection as PNG or another format of matplotlib: map, counts, agreement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from birder.analysis.agreement import Agreement
from birder.analysis.projection import MapPoints
from birder.analysis.stats import ValueCount
from birder.plots.colouring import NONE, Categories, Scale, hex_to_rgba
from birder.plots.image_file import figure_in, short

_MOST_BARS = 30
_BAR = "#0072b2"


def draw_map(points: MapPoints, file: str | Path, colours: Categories | Scale | None, column: str | None) -> None:
    """Draw a map as an image of 1300 x 975 pixels, with a legend of the most frequent values or a colour bar.

    Parameters
    ----------
    points
        The map.
    file
        Where to; its ending says the format, such as .png or .svg.
    colours
        What to colour the points by, as `colour_values` gives; one colour without it.
    column
        The name of that column.

    Raises
    ------
    BirderError
        The file cannot be written, or is of a format that matplotlib does not have.
    """
    with figure_in(file, (10, 7.5)) as figure:
        axes = figure.subplots()
        size = float(np.clip(25000 / max(len(points.xy), 1), 0.8, 26))
        x, y = points.xy[:, 0], points.xy[:, 1]
        if isinstance(colours, Scale):
            there = np.isfinite(colours.values)
            axes.scatter(x[~there], y[~there], s=size, c=NONE, linewidths=0, rasterized=True)
            shown = axes.scatter(
                x[there], y[there], s=size, c=colours.values[there], cmap="viridis", linewidths=0, rasterized=True
            )
            bar = figure.colorbar(shown, ax=axes, shrink=0.7, label=column)
            if colours.time:
                bar.ax.yaxis.set_major_formatter(lambda value, _: colours.shown(value))
        elif isinstance(colours, Categories):
            _draw_categories(axes, points, colours, column, size)
        else:
            axes.scatter(x, y, s=size, c=_BAR, alpha=0.8, linewidths=0, rasterized=True)
        axes.set(xticks=[], yticks=[], aspect="equal")
        axes.spines[:].set_visible(False)


def _draw_categories(axes: Any, points: MapPoints, colours: Categories, column: str | None, size: float) -> None:
    palette = hex_to_rgba([*colours.colours, NONE]) / 255
    # Rare values are drawn last, so that frequent ones do not hide them; those without a value first.
    frequency = np.array([*colours.counts, len(points.xy)])
    order = np.argsort(-frequency[colours.codes], kind="stable")
    axes.scatter(*points.xy[order].T, s=size, c=palette[colours.codes[order]], linewidths=0, rasterized=True)
    names, counts = [*colours.names], [*colours.counts]
    if without := int((colours.codes < 0).sum()):
        names, counts = [*names, f"no {column}"], [*counts, without]
    for name, count, colour in zip(names, counts, palette, strict=False):
        axes.scatter([], [], s=40, color=colour, label=f"{short(name)} ({count:,})")
    axes.legend(title=column, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def draw_counts(counts: Mapping[str, Sequence[ValueCount]], file: str | Path) -> None:
    """Draw how many rows have each value, as bars: one column in large, several each with its ten most frequent.

    Parameters
    ----------
    counts
        For each column its values, as `value_counts` gives; rows without a value are not drawn.
    file
        Where to.
    """
    most = _MOST_BARS if len(counts) == 1 else 10
    down = -(-len(counts) // 2) if len(counts) > 1 else 1
    across = min(len(counts), 2)
    longest = max((min(len(values), most) for values in counts.values()), default=1)
    with figure_in(file, (6.0 * across, max(2.0, 0.24 * longest + 1.0) * down)) as figure:
        panels = figure.subplots(down, across, squeeze=False).ravel()
        for axes in panels[len(counts) :]:
            axes.set_visible(False)
        for axes, (column, values) in zip(panels, counts.items(), strict=False):
            named = [each for each in values if each.value is not None]
            shown = named[:most]
            axes.barh(
                [short(str(each.value)) for each in shown][::-1], [each.count for each in shown][::-1], color=_BAR
            )
            more = f", the {len(shown)} most frequent of {len(named):,}" if len(named) > len(shown) else ""
            axes.margins(y=0.01)
            axes.set_title(f"{column}{more}", loc="left", fontsize=10)
            axes.set_xlabel("rows")
            axes.spines[["top", "right"]].set_visible(False)


def draw_agreement(found: Sequence[Agreement], file: str | Path) -> None:
    """Draw nearest-neighbour agreement by rank beside what is possible and what chance would give."""
    known = [each for each in found if each.agreement is not None]
    with figure_in(file, (7, 4)) as figure:
        axes = figure.subplots()
        names = [f"{each.rank}\n({each.n:,})" for each in known]
        axes.bar(names, [each.agreement or 0 for each in known], color=_BAR, label="nearest neighbour")
        for value, style, label in (("possible", "k_", "possible"), ("chance", "rx", "chance")):
            axes.plot(names, [getattr(each, value) for each in known], style, markersize=14, label=label)
        axes.set(ylim=(0, 1.05), ylabel="share of the same taxon")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="upper right", bbox_to_anchor=(1.0, 1.15), ncols=3)
