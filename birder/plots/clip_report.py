"""The report of a CLIP training: its curves, what it is worth, and what was wrong with the shards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from birder.files import replacing
from birder.plots.document import Section, page, table
from birder.plots.report_charts import percent, text
from birder.plots.report_training import Curve, curves

PAGE = "report.html"
_MOST_FAILURES = 200


def write_clip_report(folder: Path, record: Mapping[str, Any]) -> Path:
    """Write report.html into a folder; the page is one file and needs no network.

    Parameters
    ----------
    folder
        The folder.
    record
        What metrics.json holds (docs/train-clip.md).
    """
    sections = [Section("training", "The training", _training(record)), Section("curves", "Curves", _curves(record))]
    sections.append(Section("data", "Data", _data(record)))
    model, last = record["model"], record["history"][-1]
    zero_shot = last.get("zero_shot")
    named = (
        f"<p>It names {percent(zero_shot['top1'])} of the {zero_shot['n']:,} images of {text(zero_shot['images_of'])} "
        f"right by texts, among {zero_shot['classes']:,} classes.</p>"
        if zero_shot
        else ""
    )
    val = last.get("val")
    found = (
        f"<p>Of {val['n']:,} validation images, {percent(val['image_to_text_r1'])} have their text first among "
        f"{val['texts']:,}, and {percent(val['image_to_text_r5'])} among the first five.</p>"
        if val
        else ""
    )
    head = (
        f"<h1>A CLIP with the image encoder {text(model['network'])}</h1><p>{model['parameters']:,} parameters, of "
        f"which {model['learning']:,} learned; {record['updates']:,} updates of {record['images_per_update']:,} images "
        f"in {record['seconds'] / 60:,.1f} minutes.</p>{named}{found}"
    )
    with replacing(folder / PAGE) as draft:
        draft.write_text(page(f"CLIP: {model['network']}", head, sections), encoding="utf-8")
    return folder / PAGE


def _row(*cells: str) -> str:
    return f"<tr><th scope=row>{text(cells[0])}</th>{''.join(f'<td>{text(cell)}</td>' for cell in cells[1:])}</tr>"


def _training(record: Mapping[str, Any]) -> str:
    recipe, model, optimizer = record["recipe"], record["model"], record["optimizer"]
    rows = {
        "Begins with": record["init"]["name"] or "new weights",
        "Image encoder": f"{model['network']}, {model['size'][0]} x {model['size'][1]} pixels"
        + ", locked but for its projection" * recipe["lock_image"],
        "Text encoder": "{layers} blocks, {width} wide, {heads} heads, {context} tokens".format_map(model["text"]),
        "Embedding dimension": f"{model['text']['embedding']:,}",
        "Texts": f"{', '.join(recipe['texts'])}; one drawn {recipe['mix'].replace('-', ' ')}",
        "Batches": f"{recipe['batch_size']:,} images, {recipe['accumulate']:,} a device and update, "
        f"{record['processes']:,} devices ({record['device']}), {recipe['precision']}",
        "Learning rate": f"{recipe['lr']:g}, {recipe['warmup']:,} updates of warm-up, then a cosine to 0",
        "Optimizer": f"{optimizer['name']}, betas {optimizer['betas']}, weight decay {optimizer['weight_decay']}",
        "Images a second": f"{record['images_per_second']:,.1f}; "
        f"{percent(record['waited_for_data'] / max(record['seconds'], 1e-9))} of the time waiting for data",
        "Seed": str(recipe["seed"]),
    }
    return table("How it was trained", ("", ""), [_row(*each) for each in rows.items()], sortable=False)


def _curves(record: Mapping[str, Any]) -> str:
    history = record["history"]

    def curve(name: str, style: str, value: Callable[[Mapping[str, Any]], float]) -> Curve:
        return name, style, [(each["epoch"], value(each)) for each in history]

    drawn = [curve("training", "second", lambda each: float(each["loss"]))]
    parts = ['<p><span class="key first"></span> validation; <span class="key second"></span> training.</p>']
    if "val" in history[-1]:
        drawn.insert(0, curve("validation", "first", lambda each: float(each["val"]["loss"])))
    parts.append(curves(drawn, "Loss"))
    if "val" in history[-1]:
        for way, said in (("image_to_text", "Images that find their text"), ("text_to_image", "Texts that find one")):
            both = [
                curve("first", "first", lambda each, way=way: float(each["val"][f"{way}_r1"])),  # type: ignore[misc]
                curve("first five", "second", lambda each, way=way: float(each["val"][f"{way}_r5"])),  # type: ignore[misc]
            ]
            parts.append(
                f'<p><span class="key first"></span> at the first place; <span class="key second"></span> among the '
                f"first five.</p>{curves(both, said, share=True)}"
            )
    if "zero_shot" in history[-1]:
        named = curve("zero-shot", "first", lambda each: float(each["zero_shot"]["top1"]))
        parts.append(curves([named], "Names that are right", share=True))
    return "".join(parts)


def _data(record: Mapping[str, Any]) -> str:
    data = record["data"]
    parts = [f"<p>{data['samples']:,} samples in {data['shards']:,} shards.</p>"]
    if data["replaced"]:
        rows = [_row(each["text"], each["taken"], f"{each['samples']:,}") for each in data["replaced"]]
        parts.append(table("Texts that were missing", ("Asked for", "Taken", "Samples"), rows, sortable=False))
    if data["failed"]:
        shown = list(data["failed"].items())[:_MOST_FAILURES]
        more = len(data["failed"]) - len(shown) + data["more_failed"]
        parts.append(table("What could not be read", ("Where", "Why"), [_row(*each) for each in shown], sortable=False))
        parts.append(f"<p>And {more:,} more.</p>" * bool(more))
    else:
        parts.append("<p>All samples that were read could be used.</p>")
    return "".join(parts)
