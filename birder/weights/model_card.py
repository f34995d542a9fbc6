"""The model card beside an exported file: what it is, what it learned from, how good it is, and what it cannot do.

Mitchell et al., "Model Cards for Model Reporting" (arXiv 1810.03993), from what the registry and the checkpoint say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from birder.registry import DETECTION_TASK, WeightsSpec

_FIGURES = {
    "top1": "accuracy",
    "mean_recall": "mean recall of the classes",
    "macro_f1": "macro F1",
    "top5": "right name among the first five",
    "ece": "expected calibration error",
    "unknown_auroc": "AUROC of telling the unknown",
    "unknown_fpr95": "unknown images named where 95 % of the known are",
}
_HUB_LICENCES = {"MIT": "mit", "Apache-2.0": "apache-2.0"}


@dataclass(frozen=True)
class CardFacts:
    """What a card is written from.

    Attributes
    ----------
    name, file
        The model, and the file that it was exported as.
    network
        The registered network.
    what
        What the file computes, in a sentence.
    given, outputs
        The input and the outputs: names, and what they are.
    usage
        A program that runs the file, in Python.
    checked
        How near the file is to the network, in a sentence.
    classes
        Names, in the order of the logits.
    spec
        The registry's entry for the weights, or for those of the backbone; None if they are not registered.
    adaptation
        What learning recorded in the checkpoint; empty if it did not.
    metadata
        What is inside the file too.
    description
        Of weights without an entry, in a sentence.
    """

    name: str
    file: str
    network: str
    what: str
    given: Mapping[str, str]
    outputs: Mapping[str, str]
    usage: str
    checked: str
    classes: Sequence[str]
    spec: WeightsSpec | None
    adaptation: Mapping[str, Any]
    metadata: Mapping[str, str]
    description: str | None = None


def model_card(facts: CardFacts) -> str:
    """The card, as Markdown."""
    licence = facts.metadata.get("license", "unknown")
    head = [f"license: {_HUB_LICENCES[licence]}"] if licence in _HUB_LICENCES else []
    front = "\n".join(["---", *head, "library_name: birder", "---"])
    sections = [
        front,
        f"# {facts.name}",
        facts.what,
        "## How to run it",
        *_interface(facts),
        f"```python\n{facts.usage}\n```",
        facts.checked,
        "## What it learned from",
        *_data(facts),
        "## How good it is",
        *_metrics(facts.adaptation),
        "## Limits",
        "\n".join(f"- {each}" for each in _limits(facts)),
        "## Licence and citation",
        *_licence(facts, licence),
        "## Where it comes from",
        _table(("", ""), [(key, f"`{value}`") for key, value in _provenance(facts.metadata)]),
    ]
    return "\n\n".join(each for each in sections if each) + "\n"


def _interface(facts: CardFacts) -> Iterator[str]:
    rows = [("input", f"`{name}`", text) for name, text in facts.given.items()]
    rows += [("output", f"`{name}`", text) for name, text in facts.outputs.items()]
    yield _table(("", "name", "what it is"), rows)
    if facts.classes:
        yield f"`labels.txt` names the {len(facts.classes):,} classes, one a line, in the order of their indices."


def _data(facts: CardFacts) -> Iterator[str]:
    made, spec = facts.adaptation, facts.spec
    if made:
        counts: Mapping[str, int] = made.get("counts") or {}
        groups = made.get("groups") or {}
        learned = f"Column `{made.get('column')}` of a Birder collection"
        if counts:
            learned += f": {sum(counts.values()):,} labelled images of {len(counts):,} classes"
        if groups.get("count"):
            learned += f", in {groups['count']:,} groups of images that belong together"
        yield f"{learned}."
        yield from (str(each) for each in groups.get("how") or [])
        if counts:
            yield _table(("class", "images"), [(_cell(name), f"{n:,}") for name, n in counts.items()])
        yield from (f"Note: {each}" for each in made.get("warnings") or [])
    if spec is not None:
        yield f"{'Its backbone' if made else spec.name}: {spec.description}."
    elif not made:
        yield f"{facts.name}: {facts.description}." if facts.description else "The file does not say."


def _metrics(adaptation: Mapping[str, Any]) -> Iterator[str]:
    metrics: Mapping[str, Any] = adaptation.get("metrics") or {}
    if not metrics:
        yield "The file carries no figures. Judge it on labelled images of your own before you rely on it."
        return
    if adaptation.get("folds"):
        yield f"On images that it had not seen, in {adaptation['folds']}-fold cross-validation over groups:"
    rows = []
    for key, figure in metrics.items():
        low, high = figure.get("low"), figure.get("high")
        interval = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
        n = figure.get("n")
        rows.append((_FIGURES.get(key, key), f"{figure['estimate']:.3f}", interval, "" if n is None else f"{n:,}"))
    yield _table(("figure", "estimate", "95 % interval", "n"), rows)


def _limits(facts: CardFacts) -> Iterator[str]:
    made = facts.adaptation
    detects = facts.metadata.get("task") == DETECTION_TASK
    if detects:
        yield "Of the classes of `labels.txt` it finds animals, persons and vehicles; boxes of the others are left out."
    elif facts.classes:
        yield "It knows the classes of `labels.txt` and no others: every image gets one of them, whatever it shows."
    if made.get("unknown"):
        yield 'The checkpoint can also say "unknown", of images unlike its examples; this file cannot.'
    if made:
        yield (
            "The figures hold for images like those that it learned from: other cameras, places, seasons or "
            "preparations may give worse ones."
        )
    elif facts.classes and not detects and facts.spec is not None:
        yield "Its classes are those of its training set, which was not made for a biologist's question."
    if not facts.classes:
        yield "It names nothing: its outputs are for search, maps, and classifiers or prompts that are applied to them."
    if facts.metadata.get("transform") == "outside":
        yield "Images must be prepared as described above. With another resize, its outputs differ."


def _licence(facts: CardFacts, licence: str) -> Iterator[str]:
    if facts.spec is None and licence == "unknown":
        yield "The licence of the weights is not known to Birder: ask whoever made them."
        return
    yield f"The {'backbone' if facts.adaptation else 'weights'}: {licence}."
    if facts.spec is not None and facts.spec.citation:
        yield facts.spec.citation
    if "source" in facts.metadata:
        yield facts.metadata["source"]


def _provenance(metadata: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for key in ("network", "precision", "transform", "weights_sha256", "backbone", "backbone_sha256"):
        if key in metadata:
            yield key, metadata[key]
    yield from ((key, value) for key, value in metadata.items() if key.endswith("_version"))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    """A name in a table's cell, on one line."""
    return " ".join(text.replace("|", "\\|").split())
