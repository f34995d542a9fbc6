"""The images on a report: which ones it shows, within a limit of number and size."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from birder.plots.report_charts import text
from birder.sources import readable_path

Thumbnails = Callable[[Sequence[str]], Mapping[str, bytes]]
"""Small JPEGs by the uris of images; those that cannot be read are left out."""

CONFUSIONS = 6
"""Confusions that are shown with images ..."""
WRONG = 3
"""... so many wrongly named ones of each, beside one image of the class that they were taken for."""
MOST = 60
"""Images on a page."""
BYTES = 3_000_000
"""What the images of a page take together at most, before base64."""


class Pictures:
    """The thumbnails of a report, as HTML.

    Parameters
    ----------
    evaluation, predictions, thumbnails
        As for `birder.plots.report.write_report`.
    """

    def __init__(self, evaluation: Mapping[str, Any], predictions: pa.Table, thumbnails: Thumbnails) -> None:
        self.confusions: list[Mapping[str, Any]] = list(evaluation.get("top_confusions", ()))[:CONFUSIONS]
        self._examples = _right_ones(predictions, [each["predicted"] for each in self.confusions])
        doubtful = evaluation.get("doubtful", ())
        wanted = [id_ for each in self.confusions for id_ in [*each["ids"][:WRONG], self.example(each["predicted"])]]
        wanted += [each["id"] for each in doubtful]
        ids = list(dict.fromkeys(id_ for id_ in wanted if id_ is not None))[:MOST]
        self._names = {each["id"]: each["uri"] for each in doubtful} | _uris(predictions, ids)
        uris = list(dict.fromkeys(self._names[id_] for id_ in ids if id_ in self._names))
        found = thumbnails(uris) if uris else {}
        self._images: dict[str, bytes] = {}
        left = BYTES
        for id_ in ids:
            image = found.get(self._names.get(id_, ""))
            if image is not None and (size := len(image) * wanted.count(id_)) <= left:
                self._images[id_] = image
                left -= size

    def example(self, name: str) -> str | None:
        """The id of an image that was rightly given this name, the surest one."""
        return self._examples.get(name)

    def has(self, id_: str) -> bool:
        """Whether there is an image of this row to show."""
        return id_ in self._images

    def html(self, id_: str, what: str, kind: str = "") -> str:
        """The image of a row, or its file's name where there is none.

        Parameters
        ----------
        id_
            The row's.
        what
            What it shows, for those who do not see it.
        kind
            A class of the page's style: "right" or "wrong".
        """
        name = readable_path(self._names.get(id_, ""))
        if id_ not in self._images:
            return f'<div class="thumb none {kind}">{text(name) or "no image"}</div>'
        data = base64.b64encode(self._images[id_]).decode()
        return f'<img class="thumb {kind}" alt="{text(what)}" title="{text(name)}" src="data:image/jpeg;base64,{data}">'


def _right_ones(predictions: pa.Table, names: Iterable[str]) -> dict[str, str]:
    right = predictions.filter(pc.equal(predictions["true"], predictions["predicted"]))
    found = {}
    for name in dict.fromkeys(names):
        rows = right.filter(pc.equal(right["true"], name)).select(["id", "probability"])
        if len(rows):
            best = rows.sort_by([("probability", "descending"), ("id", "ascending")]).slice(0, 1)
            found[name] = best["id"][0].as_py()
    return found


def _uris(predictions: pa.Table, ids: Sequence[str]) -> dict[str, str]:
    rows = predictions.filter(pc.is_in(predictions["id"], pa.array(ids, pa.string())))
    return dict(zip(rows["id"].to_pylist(), rows["uri"].to_pylist(), strict=True))
