"""The section of a report on how a network was trained: its curves, and how its weights were mixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from birder.plots.report_charts import percent, text
from birder.plots.report_pictures import Pictures

Curve = tuple[str, str, Sequence[tuple[int, float]]]
"""The name of a curve, its style ("first", "second"), and its points."""

_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 16, 14, 42


def training(evaluation: Mapping[str, Any], predictions: pa.Table, pictures: Pictures) -> str:
    """What each epoch gave on the validation images, and the mixes with the weights before."""
    told = evaluation.get("training")
    if not told:
        return ""
    history = told["history"]
    accuracy = [(each["epoch"], each["accuracy"]) for each in history]
    learned = [(each["epoch"], each["loss"]) for each in history if "loss" in each]
    held_out = [(each["epoch"], each["log_loss"]) for each in history]
    best, mix = told["best"], told["mix"]
    rows = "".join(
        f'<tr><th scope=row>{percent(each["share"], 0)}</th><td class="number">{percent(each["accuracy"])}</td>'
        f'<td class="number">{each["log_loss"]:.3f}</td></tr>'
        for each in told["mixes"]
    )
    key = (
        '<p><span class="key first"></span> the validation images; <span class="key second"></span> the images that '
        "are learned, cropped and coloured at random, with smoothed labels. Epoch 0 is the network before.</p>"
    )
    return (
        f"<p>Learned from {told['images']:,} images, judged on {told['validation']:,} that were held out, in "
        f"{told['seconds'] / 60:,.1f} minutes. The weights in the file are {percent(mix, 0)} of the way from "
        f"those before the training to those of epoch {best}, the best one.</p>"
        f"{curves([('validation', 'first', accuracy)], 'Names that are right', share=True)}"
        f"{key}{curves([('validation', 'first', held_out), ('learning', 'second', learned)], 'Loss')}"
        '<div class="scroll" role="region" aria-label="Mixes, table" tabindex="0"><table><caption>Mixes</caption>'
        "<thead><tr><th scope=col>Trained weights</th><th scope=col>Right</th><th scope=col>Log loss</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def curves(drawn: Sequence[Curve], up: str, *, share: bool = False) -> str:
    """Curves over epochs as SVG; `share` for values to be read as percentages."""
    points = [point for _, _, curve in drawn for point in curve]
    least, most = min(y for _, y in points), max(y for _, y in points)
    last = max(x for x, _ in points)
    room = (most - least) * 0.05 or 0.05
    least, most = least - room, most + room

    def said(value: float) -> str:
        return percent(value) if share else f"{value:.2f}"

    def at(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (_WIDTH - _LEFT - _RIGHT) * x / max(last, 1)
        return round(across, 1), round(_TOP + (_HEIGHT - _TOP - _BOTTOM) * (most - y) / (most - least), 1)

    body = []
    for step in range(5):
        value = least + (most - least) * step / 4
        height = at(0, value)[1]
        body.append(
            f'<line class="rail" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{height}" y2="{height}"/>'
            f'<text x="{_LEFT - 6}" y="{height + 4}" text-anchor="end">{said(value)}</text>'
        )
    for epoch in sorted({round(last * step / 5) for step in range(6)}):
        across = at(epoch, least)[0]
        body.append(f'<text x="{across}" y="{_HEIGHT - _BOTTOM + 17}" text-anchor="middle">{epoch}</text>')
    about = []
    for name, style, curve in drawn:
        line = " ".join(f"{x},{y}" for x, y in (at(*point) for point in curve))
        body.append(f'<polyline class="line {style}" points="{line}"/>')
        for point in curve:
            x, y = at(*point)
            title = f"{name}, epoch {point[0]}: {said(point[1])}"
            body.append(f'<circle class="dot {style}" cx="{x}" cy="{y}" r="3"><title>{text(title)}</title></circle>')
        about.append(f"{name}: {', '.join(said(value) for _, value in curve)}")
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    label = text(f"{up} by epoch; {'; '.join(about)}")
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
        f'{"".join(body)}<text class="axis" x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 8}" '
        'text-anchor="middle">Epoch</text>'
        f'<text class="axis" transform="translate(11 {middle}) rotate(-90)" text-anchor="middle">{text(up)}</text>'
        "</svg>"
    )
