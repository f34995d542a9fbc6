"""The first screen of a report: what was asked, the answer with its interval, and what is taken for what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from birder.plots.report_charts import percent, text
from birder.plots.report_pictures import WRONG, Pictures
from birder.plots.report_words import estimate, figure, how, number, plainly


def name(value: object) -> str:
    """A name in whatever direction it is written."""
    return f"<bdi>{text(value)}</bdi>"


def title(evaluation: Mapping[str, Any]) -> str:
    """The question that the report answers."""
    asked = evaluation.get("asked", {})
    column = asked.get("column", "label")
    if judged := evaluation.get("benchmark"):
        return f"How good is {evaluation['model']['name']} on {judged['title']}?"
    if asked.get("predictions"):
        return f"How good are the names in {asked['predictions']}?"
    if asked.get("classifier"):
        return f"How good are the names of {asked['classifier']}?"
    if "top1" in evaluation.get("metrics", {}) and not asked.get("against"):
        return f"How well can {column} be learned from these images?"
    return f"How well do the embeddings tell {column} apart?"


def head(evaluation: Mapping[str, Any]) -> str:
    """The heading, the main figure in plain words, and the notes that must be read with it."""
    asked = evaluation.get("asked", {})
    notes = list(dict.fromkeys([*evaluation.get("notes", ()), *evaluation.get("groups", {}).get("how", ())]))
    shown = "".join(f"<li>{text(each)}</li>" for each in notes)
    aside = f'<aside aria-label="Notes"><h2>Before you use this figure</h2><ul>{shown}</ul></aside>' if notes else ""
    where = f", rows where <code>{text(asked['where'])}</code>" if asked.get("where") else ""
    sources = f"Judged against the labels in <b>{name(asked.get('column', 'label'))}</b>"
    if judged := evaluation.get("benchmark"):
        sources = f"The benchmark <b>{name(judged['name'])}</b>, {int(judged['images']):,} images"
    elif asked.get("collection"):
        sources += f" of {name(asked['collection'])}"
    return (
        f'<header><h1>{text(title(evaluation))}</h1><p class="asked">{sources}{where}.</p>'
        f'<div class="opening">{_answer(evaluation)}{aside}</div></header>'
    )


def _answer(evaluation: Mapping[str, Any]) -> str:
    found = evaluation.get("metrics", {}).get("top1")
    if found is None or ("benchmark" in evaluation and "zero-shot" not in evaluation["protocols"]):
        return _first_protocol(evaluation)
    n, value = int(found["n"]), float(found["estimate"])
    classes = sum(each["n"] > 0 for each in evaluation.get("classes", ()))
    groups = evaluation.get("groups", {}).get("count")
    among = f" with {classes:,} different labels" if classes else ""
    apart = f", in {groups:,} groups of images that belong together" if groups and groups < n else ""
    span = ""
    if found.get("low") is not None and found.get("high") is not None:
        low, high = float(found["low"]), float(found["high"])
        span = (
            f'<p class="span">On more images like these, expect between <b>{percent(low)}</b> and <b>{percent(high)}'
            f"</b> <span>({text(plainly(found))}).</span></p>{_gauge(value, low, high)}"
        )
    return (
        f'<div class="answer"><p class="big"><b>{percent(value)}</b> of the names are right</p>'
        f"<p>{round(value * n):,} of {n:,} images{among}{apart}.</p>{span}</div>"
    )


def _first_protocol(evaluation: Mapping[str, Any]) -> str:
    for protocol, result in evaluation.get("protocols", {}).items():
        for key, found in result.get("metrics", {}).items():
            return (
                f'<div class="answer"><p class="big"><b>{text(number(key, found["estimate"]))}</b> '
                f"{text(figure(key).name)}</p><p>Protocol {name(protocol)}, {int(found['n']):,} images: "
                f"{text(estimate(key, found))}. {text(how(found))}</p></div>"
            )
    return ""


def _gauge(value: float, low: float, high: float) -> str:
    """The main figure and its interval on a line from 0 to 100 %."""
    return (
        '<svg class="gauge" viewBox="0 0 400 34" aria-hidden="true">'
        '<line class="rail" x1="4" x2="396" y1="10" y2="10"/>'
        f'<line class="whisker" x1="{4 + 392 * low:.1f}" x2="{4 + 392 * high:.1f}" y1="10" y2="10"/>'
        f'<circle cx="{4 + 392 * value:.1f}" cy="10" r="6"/><text x="4" y="30">0</text>'
        '<text x="200" y="30" text-anchor="middle">50\u00a0%</text>'
        '<text x="396" y="30" text-anchor="end">100\u00a0%</text></svg>'
    )


def mistakes(evaluation: Mapping[str, Any], pictures: Pictures) -> str:
    """The most frequent confusions with images; empty where there are none."""
    totals = {each["name"]: int(each["n"]) for each in evaluation.get("classes", ())}
    cards = []
    for each in pictures.confusions:
        true, predicted = each["true"], each["predicted"]
        ids = each["ids"][:WRONG]
        wrong = "".join(pictures.html(id_, f"{true}, named {predicted}", "wrong") for id_ in ids)
        example = pictures.example(predicted)
        beside = ""
        if example is not None and pictures.has(example):
            shown = pictures.html(example, f"{predicted}, rightly named", "right")
            beside = f"<figure>{shown}<figcaption>{name(predicted)}</figcaption></figure>"
        of = f" of {totals[true]:,}" if true in totals else ""
        count = f'<span class="count">{each["n"]:,}{of}</span>'
        cards.append(
            f"<li><p><b>{name(true)}</b> taken for <b>{name(predicted)}</b> {count}</p>"
            f'<div class="strip"><figure class="them"><div>{wrong}</div>'
            f"<figcaption>{name(true)}, wrongly named</figcaption></figure>{beside}</div></li>"
        )
    if not cards:
        return ""
    return (
        '<section id="mistakes" aria-labelledby="mistakes-heading">'
        '<h2 id="mistakes-heading">What it gets wrong most</h2>'
        f'<ol class="cards">{"".join(cards)}</ol></section>'
    )
