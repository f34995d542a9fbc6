"""The published values of a benchmark beside the figures of a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from birder.plots.report_charts import percent, text
from birder.plots.report_pictures import Pictures

_VERDICTS = {True: "inside", False: "outside", None: ""}


def published(evaluation: Mapping[str, Any], predictions: pa.Table, pictures: Pictures) -> str:
    """A row for each published value: of which model, and where it is the same, whether the interval here holds it."""
    rows = []
    for each in evaluation.get("published", ()):
        here = span = ""
        if each["here"] is not None:
            here = percent(each["here"] / 100)
        if each["low"] is not None:
            span = f"{percent(each['low'] / 100)} to {percent(each['high'] / 100)}"
        rows.append(
            f"<tr><th scope=row>{text(each['model'])}</th><td>{text(each['protocol'])}</td>"
            f'<td class="number">{percent(each["percent"] / 100)}</td><td class="number">{here}</td>'
            f'<td class="number">{span}</td><td>{_VERDICTS[each["inside"]]}</td><td>{text(each["source"])}</td></tr>'
        )
    if not rows:
        return ""
    heads = ("Model", "Protocol", "Published", "Here", "95\u00a0% interval", "Published value is", "Source")
    return (
        "<p>A published value of the same model is inside or outside of the interval that was found here; values are "
        'taken as rounded to 0.1\u00a0%.</p><div class="scroll"><table><thead><tr>'
        f"{''.join(f'<th scope=col>{head}</th>' for head in heads)}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        "</div>"
    )
