"""The sections of a report below its first screen. A section whose data is absent is empty, and left out."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from birder.plots import report_charts as charts
from birder.plots.document import table
from birder.plots.report_charts import percent, text
from birder.plots.report_opening import name
from birder.plots.report_pictures import Pictures
from birder.plots.report_words import compared, difference, estimate, figure, number

Found = Mapping[str, Any]

_CONFUSIONS_LISTED = 50
_NO_NAME = "(no name)"
_NUMBERS = {"Value", "Images", "Right", "Recall", "Precision", "F1", "Of this label", "n"}
_MOST_SET = 6  # sets of this size and more are one bar


def figures(evaluation: Found, predictions: pa.Table, pictures: Pictures) -> str:
    """Every figure with its interval and what it means."""
    return _figures(evaluation.get("metrics", {}), "All figures")


def comparison(evaluation: Found, predictions: pa.Table, pictures: Pictures) -> str:
    """Two models on the same images: both figures, their difference, and whether chance explains it."""
    found = evaluation.get("comparison")
    if not found:
        return ""
    first, second = found["names"]
    counts = (
        ("both_right", "Both are right"),
        ("only_first_right", f"Only {first} is right"),
        ("only_second_right", f"Only {second} is right"),
        ("neither_right", "Neither is right"),
    )
    rows = [(label, f"{found[key]:,}") for key, label in counts]
    rows.append(("McNemar's exact test, which takes images for independent: p", f"{found['mcnemar_p']:.2g}"))
    lines = []
    for key, each in found["difference"].items():
        mine, theirs = (number(key, found[which][key]) for which in ("first", "second"))
        lines.append(
            f'<tr><th scope=row>{text(figure(key).name)}</th><td class="number">{mine}</td>'
            f'<td class="number">{theirs}</td><td class="number">{text(difference(key, each))}</td></tr>'
        )
    heads = ("Figure", first, second, "Difference, 95\u00a0% interval")
    return (
        f"<p>{text(compared(found))} {text(found.get('how', ''))}</p>"
        f"{_table('Two models: figures', heads, lines, sortable=False, whole=True)}"
        f"{_plain_table('Two models: images', ('What', 'Images'), rows)}"
    )


def protocols(evaluation: Found, predictions: pa.Table, pictures: Pictures) -> str:
    """The protocols that were run on the embeddings alone."""
    parts = []
    for protocol, result in evaluation.get("protocols", {}).items():
        about = f"<p>{text(result['how'])}</p>" if result.get("how") else ""
        parts.append(f"<h3>{name(protocol)}</h3>{about}{_figures(result.get('metrics', {}), f'Protocol {protocol}')}")
    return "".join(parts)


def groups(evaluation: Found, predictions: pa.Table, pictures: Pictures) -> str:
    """The accuracy for each value of each column, the worst first; the column with the fewest values comes first."""
    columns: dict[str, list[str]] = {}
    for each in evaluation.get("by_group", ()):
        found = each["accuracy"]
        columns.setdefault(each["column"], []).append(
            f"<tr><th scope=row>{name(each['value'])}</th>{_count(each['n'])}{_share(found['estimate'])}"
            f"{_span(found)}</tr>"
        )
    heads = ("Images", "Right", "95\u00a0% interval")
    return "".join(
        _table(f"By {said}, the worst first", (said, *heads), rows, down=("Images",))
        for column, rows in sorted(columns.items(), key=lambda item: len(item[1]))
        for said in [column.replace("_", " ")]
    )


def confusions(evaluation: Found, predictions: pa.Table, pictures: Pictures) -> str:
    """The confusion matrix where it can be read, and the most frequent confusions as a table."""
    cells = [(true, _NO_NAME if named is None else named, int(n)) for true, named, n in evaluation.get("confusion", ())]
    if not cells:
        return ""
    names = dict.fromkeys(each["name"] for each in evaluation.get("classes", ()))
    names |= dict.fromkeys(sorted({each for true, predicted, _ in cells for each in (true, predicted)}))
    matrix = ""
    if len(names) <= charts.MOST_CLASSES:
        matrix = (
            '<p>A row is a label, a column the name given. <span class="key right"></span> right, '
            '<span class="key wrong"></span> wrong; the stronger, the more of the row.</p>'
            f'<div class="scroll" role="region" aria-label="Confusion matrix" tabindex="0">'
            f"{charts.confusion(list(names), cells)}</div>"
        )
    wrong = sorted((each for each in cells if each[0] != each[1]), key=lambda each: (-each[2], each[0], each[1]))
    if not wrong:
        return f"{matrix}<p>Nothing was taken for something else.</p>"
    totals: Counter[str] = Counter()
    for true, _, n in cells:
        totals[true] += n
    rows = [
        f"<tr><th scope=row>{name(true)}</th><td>{name(predicted)}</td>{_count(n)}{_share(n / totals[true])}</tr>"
        for true, predicted, n in wrong[:_CONFUSIONS_LISTED]
    ]
    more = ""
    if len(wrong) > len(rows):
        more = f"<p>The {len(rows):,} most frequent of {len(wrong):,}; metrics.json has all of them.</p>"
    heads = ("Label", "Named", "Images", "Of this label")
    return f"{matrix}{_table('Confusions', heads, rows, down=('Images', 'Of this label'))}{more}"


def classes(evaluation: Found, predictions: pa.Table, pictures: Pictures) -> str:
    """Precision, recall and F1 of each class."""
    rows = []
    for each in evaluation.get("classes", ()):
        low, high = each.get("intervals", {}).get("recall", (None, None))
        bar = "" if each.get("recall") is None else charts.interval(each["recall"], low, high)
        shares = "".join(_share(each.get(key)) for key in ("recall", "precision", "f1"))
        first = f"<tr><th scope=row>{name(each['name'])}</th>{_count(each['n'])}"
        rows.append(f'{first}{shares}<td class="drawn">{bar}</td></tr>')
    if not rows:
        return ""
    about = (
        "<p>Recall: of the images with this label, how many got its name. Precision: of the images that got this name, "
        "how many have its label. Headings sort.</p>"
    )
    heads = ("Class", "Images", "Recall", "Precision", "F1", "")
    return about + _table("Class by class", heads, rows, down=("Images",))


def ranks(evaluation: Found, predictions: pa.Table, pictures: Pictures) -> str:
    """The accuracy after label and name are rolled up to each rank."""
    rows = [
        f"<tr><th scope=row>{name(each['rank'])}</th>{_count(each['accuracy']['n'])}"
        f"{_share(each['accuracy']['estimate'])}{_span(each['accuracy'])}</tr>"
        for each in evaluation.get("ranks", ())
    ]
    if not rows:
        return ""
    height = evaluation.get("metrics", {}).get("lca_height")
    also = "" if height is None else f" Label and name meet {text(estimate('lca_height', height))} ranks up on average."
    about = f"<p>Label and name are both rolled up to the rank before they are compared.{also}</p>"
    return about + _table("Rank by rank", ("Rank", "Images", "Right", "95\u00a0% interval"), rows)


def calibration(evaluation: Found, predictions: pa.Table, pictures: Pictures) -> str:
    """How right the model is where it is so and so sure, before and after temperature."""
    found = evaluation.get("calibration", {})
    bins, before = found.get("bins", ()), found.get("uncalibrated", ())
    if not bins:
        return ""
    metrics = evaluation.get("metrics", {})
    key = '<span class="key first"></span> the probabilities as given'
    if before:
        key += ', <span class="key second"></span> before temperature'
    there = [each for each in ("ece", "ece_uncalibrated") if each in metrics]
    errors = [f"{figure(each).name}: {estimate(each, metrics[each])}." for each in there]
    return (
        "<p>Below the dashed line it is surer than it should be, above it less sure. "
        f"{key}. {text(' '.join(errors))}</p>{charts.reliability(bins, before)}"
    )


def coverage(evaluation: Found, predictions: pa.Table, pictures: Pictures) -> str:
    """How many images get a name, and how many of those names are right, from the surest on."""
    curve = evaluation.get("risk_coverage", ())
    if not curve:
        return ""
    metrics = evaluation.get("metrics", {})
    marks, said = [], []
    for share in (90, 95, 99):
        found = metrics.get(f"coverage_at_{share}")
        if found is None:
            continue
        value = float(found["estimate"])
        said.append(
            f"<li><b>{share}\u00a0% right</b>: {text(estimate(f'coverage_at_{share}', found))} of the images get a name"
            f"{_threshold(curve, value)}.</li>"
        )
        if value > 0:
            marks.append((f"{share}\u00a0% right: {percent(value, 0)} named", value, share / 100))
    lines = f"<ul>{''.join(said)}</ul>" if said else ""
    about = "<p>Leave out the images of which it is least sure, and more of the names that remain are right.</p>"
    return f"{about}{charts.risk_coverage(curve, marks)}{lines}"


def sets(evaluation: Found, predictions: pa.Table, pictures: Pictures) -> str:
    """Coverage and size of the conformal sets."""
    metrics = evaluation.get("metrics", {})
    there = {key: metrics[key] for key in ("set_coverage", "set_size") if key in metrics}
    if not there:
        return ""
    about = (
        "<p>Instead of one name, a set that holds the right one as often as was asked for. The guarantee is for images "
        "like those that it was fitted on.</p>"
    )
    chart = ""
    if "set" in predictions.column_names:
        lengths = pc.list_value_length(predictions["set"]).drop_null().to_pylist()
        sizes = Counter(min(length, _MOST_SET) for length in lengths)
        chart = charts.bars([(_names(size), sizes[size]) for size in sorted(sizes)], "Names in a set") if sizes else ""
    return about + _figures(there, "Conformal sets") + chart


def unknown(evaluation: Found, predictions: pa.Table, pictures: Pictures) -> str:
    """How well images of unknown classes are told apart, measured with classes that were left out."""
    metrics = evaluation.get("metrics", {})
    there = {key: metrics[key] for key in ("unknown_auroc", "unknown_fpr95") if key in metrics}
    found = evaluation.get("unknown") or {}
    if not there and not found:
        return ""
    said = "".join(f" {text(each)}" for each in [found.get("how")] if each)
    if found.get("threshold") is not None:
        said += f" Images further than {found['threshold']:.3f} from their nearest examples are called unknown."
    about = "<p>Distance to the nearest training images tells what belongs to none of the classes.</p>"
    return about + (f"<p>{said.strip()}</p>" if said else "") + _figures(there, "The unknown")


def doubtful(evaluation: Found, predictions: pa.Table, pictures: Pictures) -> str:
    """The labels that the out-of-fold probabilities speak against most."""
    rows = evaluation.get("doubtful", ())
    if not rows:
        return ""
    collection = str(evaluation.get("asked", {}).get("collection", "COLLECTION"))
    cards = []
    for each in rows:
        what = f"Labelled {each['label']}, looks like {each['suggested']}"
        image = pictures.html(each["id"], what) if pictures.has(each["id"]) else ""
        cards.append(
            f"<li>{image}<div><p>labelled <b>{name(each['label'])}</b>, looks like <b>{name(each['suggested'])}</b></p>"
            f"<code>{text(_search(collection, [each['id']]))}</code></div></li>"
        )
    together = _search(collection, [each["id"] for each in rows]) + " --to doubtful.html"
    return (
        f"<p>{len(rows):,} labels that may be mistakes, the most suspicious first. Nothing was changed: look at them, "
        f'and correct those that are wrong.</p><ol class="doubtful">{"".join(cards)}</ol>'
        "<details><summary>All of them as one page of images</summary>"
        f"<pre tabindex=0><code>{text(together)}</code></pre></details>"
    )


def made(evaluation: Found, predictions: pa.Table, pictures: Pictures) -> str:
    """Everything that is needed to do it again."""
    rows: list[tuple[str, str]] = []
    for key in ("asked", "model", "transform", "engine", "groups", "seeds", "versions"):
        rows += _flat(key, evaluation.get(key))
    shown = "".join(f"<dt>{text(key)}</dt><dd>{name(value)}</dd>" for key, value in rows)
    return (
        "<p>metrics.json beside this page has every number, and predictions.parquet one row for each image, from which "
        f"every figure can be computed again.</p><dl>{shown}</dl>"
    )


def _figures(metrics: Found, caption: str) -> str:
    rows = []
    for key, found in metrics.items():
        about = figure(key)
        low, high = found.get("low"), found.get("high")
        span = "" if low is None or high is None else f"{number(key, low)} to {number(key, high)}"
        drawn = charts.interval(found["estimate"], low, high) if about.share else ""
        rows.append(
            f"<tr><th scope=row>{text(about.name)}<small>{text(about.meaning)}</small></th>"
            f'<td class="number">{text(number(key, found["estimate"]))}</td><td class="number">{text(span)}</td>'
            f'<td class="drawn">{drawn}</td><td class="number">{int(found["n"]):,}</td>'
            f'<td class="drawn">{text(found.get("interval") or "")}</td></tr>'
        )
    if not rows:
        return ""
    heads = ("Figure", "Value", "95\u00a0% interval", "", "n", "Interval by")
    return _table(caption, heads, rows, sortable=False, whole=True)


def _table(
    caption: str,
    heads: Sequence[str],
    rows: Iterable[str],
    *,
    sortable: bool = True,
    down: Sequence[str] = (),
    whole: bool = False,
) -> str:
    return table(caption, heads, rows, numbers=_NUMBERS, sortable=sortable, down=down, whole=whole)


def _plain_table(caption: str, heads: Sequence[str], rows: Iterable[tuple[str, str]]) -> str:
    made = [f'<tr><th scope=row>{name(key)}</th><td class="number">{text(value)}</td></tr>' for key, value in rows]
    return _table(caption, heads, made, sortable=False)


def _count(n: int) -> str:
    return f'<td class="number" data-v="{n}">{n:,}</td>'


def _share(share: float | None) -> str:
    if share is None:
        return '<td class="number" data-v="-1"></td>'
    return f'<td class="number" data-v="{share:.6f}">{percent(share)}</td>'


def _span(found: Found) -> str:
    """An interval as a drawing and in numbers; sorted by its lower end."""
    low, high = found.get("low"), found.get("high")
    drawn = charts.interval(found["estimate"], low, high)
    if low is None or high is None:
        return f'<td data-v="-1">{drawn}</td>'
    return f'<td class="span" data-v="{low:.6f}">{drawn} <span>{100 * low:.1f} to {percent(high)}</span></td>'


def _names(size: int) -> str:
    if size == _MOST_SET:
        return f"{size} or more"
    return "1 name" if size == 1 else f"{size} names"


def _threshold(curve: Sequence[Found], coverage: float) -> str:
    """From which probability on, at the point of the curve that is nearest to a coverage."""
    if coverage <= 0:
        return ""
    near = min(curve, key=lambda each: abs(each["coverage"] - coverage))
    return "" if near.get("threshold") is None else f", those with a probability of {near['threshold']:.2f} or more"


def _search(collection: str, ids: Sequence[str]) -> str:
    quoted = ["'" + each.replace("'", "''") + "'" for each in ids]
    where = f"id = {quoted[0]}" if len(quoted) == 1 else f"id IN ({', '.join(quoted)})"
    many = f" -k {len(ids)}" if len(ids) > 20 else ""
    return f"birder search {shlex.quote(collection)} --where {_shell(where)}{many}"


def _shell(where: str) -> str:
    """A filter in double quotes as people write it, where nothing in it means something to a shell."""
    return shlex.quote(where) if set(where) & set('"\\$`!\n') else f'"{where}"'


def _flat(key: str, value: Any) -> list[tuple[str, str]]:
    """Nested values as lines, "versions numpy: 2.1"; what is absent, or a sentence (`how`), has none."""
    if isinstance(value, Mapping):
        return [line for inner, each in value.items() if inner != "how" for line in _flat(f"{key} {inner}", each)]
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    return [] if value in (None, "") else [(key, str(value))]
