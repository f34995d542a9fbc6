"""Words without a text encoder: a word names classes of a model, and an image has the sum of their probabilities.

A word is the name of a class, or of what classes have in common. For ImageNet's classes that is what stands above them
in WordNet (a "feline" is any of its cats); for an adapted classifier, the taxa that its classes belong to.

C is the number of classes, N of rows, D the embedding dimension.
"""

from __future__ import annotations

import csv
import difflib
import functools
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from birder.collection.model import resolved
from birder.collection.schema import IMPORTED
from birder.collection.storage import Storage
from birder.errors import ConfigError, UnknownNameError, WrongModelError
from birder.inference.classifier import Classifier
from birder.weights.hub import sha256_of
from birder.weights.resolve import Kind, Model

Vectors = npt.NDArray[np.float32]
Places = frozenset[int]

_CLOSE = 3
_LEADING = re.compile(r"^(?:(?:a|the|any|some) )?(?:(?:photo|picture|image)s? of )?(?:(?:an?|the|any|some) )?")
_BETWEEN = re.compile(r"\s*[,;+]\s*|\s+or\s+|\s+and\s+")
_LAST = re.compile(r"[,;+]\s*|\s+or\s+|\s+and\s+|(?:^|\s)-(?=[^\W\d_])")
"""What may stand before the last word of a text."""
_MINUS = re.compile(r"(?:^|\s)-(?=[^\W\d_])")
_PLURALS = (("ies", "y"), ("ves", "f"), ("men", "man"), ("es", ""), ("s", ""))


@dataclass(frozen=True)
class Asked:
    """What a text asks for: places of classes for each word that is wanted, and for each that is not."""

    wanted: dict[str, Places]
    unwanted: dict[str, Places]


@dataclass(frozen=True)
class ClassWords:
    """The words that a model's classes are known by.

    Attributes
    ----------
    model, sha256, source
        Its name, the sha256 of its file, and the word that names it: see `birder.weights.resolve.resolve`.
    classifier
        Its classes, on embeddings.
    words
        Each word, in lower case, and the places of its classes.
    """

    model: str
    sha256: str
    source: str
    classifier: Classifier
    words: Mapping[str, Places]

    def places(self, word: str) -> Places | None:
        """The classes of a word or several that are one name, in the singular or plural; None if it is not known."""
        folded = fold(word)
        for form in dict.fromkeys((folded, _LEADING.sub("", folded))):
            if form in self.words:
                return self.words[form]
            for ending, other in _PLURALS:
                if form.endswith(ending) and (single := form.removesuffix(ending) + other) in self.words:
                    return self.words[single]
        return None

    def parse(self, text: str, *, unwanted: bool = False) -> Asked:
        """Read a text: words between commas, + or "or", and after a minus sign those that are not wanted.

        Parameters
        ----------
        text
            "owl", "great grey owl, hawk", "bird -owl".
        unwanted
            Whether the text itself says what is not wanted.

        Raises
        ------
        UnknownNameError
            No class has such a name; the message tells the nearest.
        ConfigError
            There is no word in it.
        """
        asked = Asked({}, {})
        for number, part in enumerate(_MINUS.split(text)):
            minus = bool(number)
            whole = fold(part)
            if not whole:
                continue
            names = [whole] if self.places(whole) is not None else [each for each in _BETWEEN.split(whole) if each]
            for name in names:
                found = self.places(name)
                if found is None:
                    raise self.unknown(name)
                (asked.unwanted if minus != unwanted else asked.wanted)[name] = found
        if not asked.wanted and not asked.unwanted:
            raise ConfigError(f"There is no word in {text!r}.")
        return asked

    def unknown(self, word: str) -> UnknownNameError:
        """The error for a word that no class is known by."""
        near = self.nearest(word)
        told = f"; nearest: {', '.join(near)}" if near else ""
        return UnknownNameError(f"No class of {self.model} is called {fold(word)!r}{told}.")

    def nearest(self, word: str) -> list[str]:
        """Known words that are part of one that is not known, the last ones if there are any, or are written alike."""
        parts = _LEADING.sub("", fold(word)).split()
        for ends in (
            [parts[first:] for first in range(1, len(parts))],
            [parts[:last] for last in range(len(parts) - 1, 0, -1)],
        ):
            for some in ends:
                if self.places(" ".join(some)) is not None:
                    return [" ".join(some)]
        return difflib.get_close_matches(" ".join(parts), self.words, n=_CLOSE, cutoff=0.6)

    def complete(self, start: str, limit: int = 10) -> list[tuple[str, int]]:
        """Texts that what someone has typed may become, its last word completed, and the word's number of classes.

        The word itself comes first, then those that begin with it, then those with a further word that does; of each,
        those of the most classes first.
        """
        before = max((found.end() for found in _LAST.finditer(start)), default=0)
        typed = fold(start[before:])
        if not typed:
            return []
        ranked = []
        for word, places in self.words.items():
            if word == typed:
                order = 0
            elif word.startswith(typed):
                order = 1
            elif f" {typed}" in word:
                order = 2
            else:
                continue
            ranked.append((order, -len(places), word))
        return [(start[:before] + word, -count) for _, count, word in sorted(ranked)[:limit]]

    def scorer(self, texts: Sequence[tuple[str, bool]]) -> tuple[Callable[[Vectors], Vectors], str]:
        """What scores embeddings by texts, and what its scores are.

        Parameters
        ----------
        texts
            Each with whether it is wanted.

        Returns
        -------
        A function of embeddings (N, D), as a collection stores them: float32 (N,), the mean over the words that are
        wanted less the mean over those that are not, where a word counts with the summed probability of its classes.
        And a sentence that says so.

        Raises
        ------
        UnknownNameError, ConfigError
            As for `parse`.
        """
        wanted: dict[str, Places] = {}
        unwanted: dict[str, Places] = {}
        for text, is_wanted in texts:
            asked = self.parse(text, unwanted=not is_wanted)
            wanted |= asked.wanted
            unwanted |= asked.unwanted

        def score(embeddings: Vectors) -> Vectors:
            probabilities = self.classifier.predict_proba(embeddings)
            total = np.zeros(len(embeddings), np.float32)
            for sign, words in ((1, wanted), (-1, unwanted)):
                for places in words.values():
                    total += summed(probabilities, places) * np.float32(sign / len(words))
            return total

        counts = {word: len(places) for word, places in (wanted | unwanted).items()}
        told = ", ".join(f"{word}: {count:,} class{'es' * (count != 1)}" for word, count in counts.items())
        return score, (
            f"Found by the class names of {self.model} ({told}), not by a text encoder; similarity is their summed "
            "probability."
        )


def summed(probabilities: Vectors, places: Places) -> Vectors:
    """The summed probability of some classes, float32 (N,), of probabilities (N, C)."""
    total: Vectors = probabilities[:, sorted(places)].sum(axis=1)
    return total


def fold(word: str) -> str:
    """A word as it is looked up: in lower case, accents joined to their letters, underscores and spaces one space."""
    return " ".join(unicodedata.normalize("NFKC", word).casefold().replace("_", " ").split())


def words_of(classes: Sequence[str], taxa: Mapping[str, Mapping[str, str]]) -> dict[str, Places]:
    """The words that classes are known by.

    Parameters
    ----------
    classes
        C names. A name may be several, with commas between: "tench, Tinca tinca". ImageNet's get WordNet's words.
    taxa
        Class -> rank -> taxon, of those that are known.
    """
    found: dict[str, set[int]] = {}
    for place, name in enumerate(classes):
        for word in {name, *name.split(", "), *taxa.get(name, {}).values()}:
            found.setdefault(fold(word), set()).add(place)
    if tuple(classes) == _imagenet_classes():
        for word, places in _wordnet().items():
            found.setdefault(word, set()).update(places)
    found.pop("", None)
    return {word: frozenset(places) for word, places in found.items()}


def load_class_words(model: Model) -> ClassWords | None:
    """The words of a model's classes.

    None if it has a text encoder, which knows any words, or no class names.

    Raises
    ------
    WeightsError
        Its weights are damaged, or its classifier is not one linear layer.
    """
    if not may_have_class_words(model):
        return None
    from birder.weights.head import head_of, load_head
    from birder.weights.load import read_weights

    if model.kind == Kind.head:
        path = Path(model.source)
        head, sha256 = load_head(path), sha256_of(path)
    else:
        weights = model.fetch()
        checkpoint = read_weights(weights.path, spec=model.spec, openclip=None)
        if not checkpoint.class_to_idx:
            return None
        head, sha256 = head_of(checkpoint, weights.path), weights.sha256
    taxa = (head.adaptation.get("ranks") or {}).get("taxa", {})
    classifier = Classifier(head.classes, head.weight, head.bias, head.adaptation, head.examples)
    return ClassWords(model.name, sha256, model.source, classifier, words_of(head.classes, taxa))


def class_words_of_rows(collection: Storage) -> ClassWords | None:
    """The words of the model of a collection; None as for `load_class_words`, or if it is not known here.

    Raises
    ------
    WrongModelError
        The model's name no longer stands for what embedded the images.
    """
    card = collection.model
    model = resolved(card.source)
    if card.engine == IMPORTED or model is None or not may_have_class_words(model):
        return None
    found = load_class_words(model)
    if found is not None and found.sha256 != card.sha256:
        raise WrongModelError(f"{card.source} is no longer the model that {collection.path} was made with.")
    return found


def has_class_words(model: Model) -> bool:
    """Whether a model that is on this machine has class names, and no text encoder."""
    if not may_have_class_words(model):
        return False
    if model.has_classes:
        return True
    from birder.naming.by_classifier import is_classifier

    return is_classifier(model)


def may_have_class_words(model: Model) -> bool:
    """Whether a model has no text encoder and may have class names, as far as can be told without reading it."""
    return model.openclip is None and model.has_classes is not False


@functools.cache
def _imagenet_classes() -> tuple[str, ...]:
    from birder.weights.load import class_names

    return tuple(class_names("imagenet-1k-classes.txt"))


@functools.cache
def _wordnet() -> dict[str, set[int]]:
    """Each name of a synset of ImageNet's classes and of those above them, and the places of the classes below it."""
    below: dict[str, set[int]] = {}
    for place, row in enumerate(_table("imagenet-1k-wordnet.csv")):
        for synset in (row["synset"], *row["hypernyms"].split()):
            below.setdefault(synset, set()).add(place)
    found: dict[str, set[int]] = {}
    for row in _table("imagenet-1k-wordnet-names.csv"):
        for name in row["names"].split("; "):
            found.setdefault(fold(name), set()).update(below.get(row["synset"], ()))
    return {word: places for word, places in found.items() if places}


def _table(name: str) -> list[dict[str, str]]:
    text = resources.files("birder.data").joinpath(name).read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))
