"""Samples of shards for training CLIP: shuffled, divided among processes, and from any sample on.

A stream is one of several that share the shards. What it gives follows from its arguments alone, and its place can be
kept, as JSON, and taken up again: the samples that follow are the same, in the same order. What cannot be read is left
out and listed. Texts that a shard lacks are replaced by others; see `Captions`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from birder.errors import ConfigError, ImageError
from birder.images.open import open_image
from birder.pipeline.decode import why_unreadable
from birder.sources import is_url, read_json
from birder.sources.samples import Damage, RawSample, read_samples

SHUFFLED = 2_000
"""Samples that wait in memory, of which the next is drawn: some 100 MB of those of TreeOfLife."""
FALLBACKS = (
    "taxon",
    "taxonomic_name",
    "sci",
    "scientific_name",
    "taxonTag",
    "taxon_com",
    "taxonTag_com",
    "sci_com",
    "com",
    "common_name",
    "text",
)
"""What stands for a text that a sample lacks: the first of these that it has, else its first by name."""
_PAUSES = (1.0, 5.0, 25.0)  # seconds before a server is asked again
_MOST_FAILED = 10_000  # failures that are listed
_HOPELESS = 10_000  # samples in a row that cannot be read


class Sample(NamedTuple):
    """A sample: its key, the pixels (H, W, 3) uint8 of its upright RGB image, and its texts by name."""

    key: str
    pixels: npt.NDArray[np.uint8]
    texts: Mapping[str, str]


class ShardStream(Iterator[Sample]):
    """The samples of shards, pass after pass without end; or once.

    In each pass the shards come in another order and are divided among the streams; where there are fewer shards than
    streams, several share one and take turns with its samples. Each sample comes once a pass: the samples that wait are
    used up at its end. With `resample`, there are no passes: each stream draws shards with replacement, as BioCLIP's
    training does (OpenCLIP's `--dataset-resampled`).

    Parameters
    ----------
    shards
        As `birder.sources.shard_names.expand_shards` gives them.
    seed
        Of the order.
    shuffle
        How many samples wait in memory, of which the next is drawn; 0 keeps the order of the shards.
    resample
        Draw shards with replacement.
    once
        End after one pass, in which the shards keep their order.
    stream, streams
        Which stream this is, from 0, and how many there are: in training, processes times workers of each.

    Attributes
    ----------
    failed
        What could not be read -> why: shards, places in them, and samples, as "SHARD KEY"; 10,000 at most.
    more_failed
        How many failures came after those.

    Raises
    ------
    ConfigError
        While iterating: no sample of the shards can be read.
    """

    def __init__(
        self,
        shards: Sequence[str],
        *,
        seed: int = 0,
        shuffle: int = SHUFFLED,
        resample: bool = False,
        once: bool = False,
        stream: int = 0,
        streams: int = 1,
    ) -> None:
        if not shards or not 0 <= stream < streams or (resample and once):
            raise ConfigError(
                f"Stream {stream} of {streams} of {len(shards)} shards cannot be read{' once, resampled' * once}."
            )
        self._shards = tuple(shards)
        self._seed, self._most, self._resample, self._once = seed, max(shuffle, 1), resample, once
        self._stream, self._streams = stream, streams
        self._random = np.random.default_rng([seed, stream, 1])
        self._pass = self._place = self._start = self._number = 0
        self._ending = False
        self._waiting: list[tuple[int, RawSample | None, int]] = []
        self._barren = self._unread = 0
        self.failed: dict[str, str] = {}
        self.more_failed = 0
        self._coming = self._samples()

    def __next__(self) -> Sample:
        """The next sample that can be read."""
        while True:
            shard, raw, start = self._draw()
            name = f"{self._shards[shard]} {raw.key if raw is not None else f'at byte {start:,}'}"
            found = _decoded(raw)
            if isinstance(found, Sample):
                self._unread = 0
                return found
            self._fail(name, found)
            self._unread += 1
            if self._unread >= _HOPELESS and not self._once:
                raise self._hopeless()

    def state(self) -> dict[str, Any]:
        """Where it is, as JSON; `restore` of a stream with the same arguments goes on from there."""
        return {
            "of": self._identity(),
            "pass": self._pass,
            "place": self._place,
            "start": self._start,
            "number": self._number,
            "ending": self._ending,
            "waiting": [[shard, start] for shard, _, start in self._waiting],
            "random": self._random.bit_generator.state,
            "failed": dict(self.failed),
            "more_failed": self.more_failed,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where a stream with the same arguments was.

        Raises
        ------
        ConfigError
            The state is that of a stream of other shards, or with other arguments.
        """
        if state["of"] != self._identity():
            raise ConfigError("The place to go on from is one in other shards, or of another division of them.")
        self._pass, self._place = state["pass"], state["place"]
        self._start, self._number, self._ending = state["start"], state["number"], state["ending"]
        self._random.bit_generator.state = state["random"]
        self._waiting = [(shard, self._read_again(shard, start), start) for shard, start in state["waiting"]]
        self.failed, self.more_failed = dict(state["failed"]), state["more_failed"]
        self._coming = self._samples()

    def _identity(self) -> list[Any]:
        how = [self._seed, self._most, self._resample, self._once, self._stream, self._streams]
        return [*how, list(self._shards)]

    def _draw(self) -> tuple[int, RawSample | None, int]:
        """One of the samples that wait, after others were read to fill their place."""
        while True:
            while not self._ending and len(self._waiting) < self._most:
                found = next(self._coming)
                if found is None:
                    self._ending = True
                else:
                    self._waiting.append((found[0], found[1], found[1].start))
            if self._waiting:
                break
            if self._once:
                raise StopIteration
            self._ending = False
        chosen = int(self._random.integers(len(self._waiting))) if len(self._waiting) > 1 else 0
        self._waiting[chosen], self._waiting[-1] = self._waiting[-1], self._waiting[chosen]
        drawn = self._waiting.pop()
        if not self._waiting and not self._once:
            self._ending = False
        return drawn

    def _samples(self) -> Iterator[tuple[int, RawSample] | None]:
        """The samples as they are stored, from this stream's place on, which moves with them; None ends a pass."""
        while True:
            order, turns, turn = self._order(self._pass)
            while self._place < len(order):
                shard = order[self._place]
                for found in self._read(self._shards[shard]):
                    number, self._start, self._number = self._number, found.end, self._number + 1
                    if number % turns == turn:
                        self._barren = 0
                        yield shard, found
                self._place, self._start, self._number = self._place + 1, 0, 0
                self._barren += 1
            self._pass, self._place = self._pass + 1, 0
            if self._barren > 10 * len(self._shards) and not self._once:
                raise self._hopeless()
            if not self._resample:
                yield None

    def _read(self, shard: str) -> Iterator[RawSample]:
        """The samples of a shard from this stream's place in it on; a server is asked again where it breaks off."""
        for pause in (*(_PAUSES if is_url(shard) else ()), None):
            try:
                for found in read_samples(shard, self._start):
                    if isinstance(found, Damage):
                        self._fail(f"{shard} at byte {found.start:,}", found.reason)
                    else:
                        yield found
                return
            except FileNotFoundError as error:
                self._fail(shard, why_unreadable(error))
                return
            except (OSError, ConfigError, MemoryError) as error:
                if pause is None:
                    self._fail(shard, why_unreadable(error))
                else:
                    time.sleep(pause)

    def _order(self, number: int) -> tuple[list[int], int, int]:
        """The shards of a pass in their order, how many streams share each, and whose turn this stream's is."""
        count = len(self._shards)
        if self._resample:
            return [int(np.random.default_rng([self._seed, self._stream, 2, number]).integers(count))], 1, 0
        order = list(range(count))
        if not self._once:
            order = np.random.default_rng([self._seed, number]).permutation(count).tolist()
        if self._streams <= count:
            return order[self._stream :: self._streams], 1, 0
        mine = self._stream % count
        return [order[mine]], len(range(mine, self._streams, count)), self._stream // count

    def _read_again(self, shard: int, start: int) -> RawSample | None:
        try:
            found = next(read_samples(self._shards[shard], start), None)
        except (OSError, ConfigError, MemoryError):
            return None
        return found if isinstance(found, RawSample) else None

    def _fail(self, name: str, reason: str) -> None:
        if name not in self.failed:
            if len(self.failed) < _MOST_FAILED:
                self.failed[name] = reason
            else:
                self.more_failed += 1

    def _hopeless(self) -> ConfigError:
        examples = "; ".join(f"{name}: {reason}" for name, reason in list(self.failed.items())[:3])
        return ConfigError(f"No sample of the {len(self._shards)} shards can be read ({examples}). Check the shards.")


def _decoded(raw: RawSample | None) -> Sample | str:
    """A sample with its pixels, or why it cannot be used."""
    if raw is None:
        return "it can no longer be read"
    if raw.image is None:
        return "it has no image"
    texts = {name: text for name, text in raw.texts.items() if text.strip()}
    if not texts:
        return "it has no text"
    try:
        return Sample(raw.key, np.array(open_image(raw.image)), texts)
    except ImageError as error:
        return str(error)


class Captions:
    """Takes one text of each sample, and counts where another stands for the one that was asked for.

    Attributes
    ----------
    replaced
        (Asked for, taken) -> how often.
    """

    def __init__(self) -> None:
        self.replaced: Counter[tuple[str, str]] = Counter()

    def of(self, texts: Mapping[str, str], name: str) -> str:
        """The text of this name; without it, that of the first of `FALLBACKS` that there is, else the first by name."""
        if name in texts:
            return texts[name]
        taken = next(other for other in (*FALLBACKS, *sorted(texts)) if other in texts)
        self.replaced[name, taken] += 1
        return texts[taken]

    def __str__(self) -> str:
        return "; ".join(
            f"{count:,} samples without {asked}: {taken} was taken"
            for (asked, taken), count in sorted(self.replaced.items())
        )


def count_samples(shards: Sequence[str]) -> int | None:
    """How many samples shards have, by the sizes.json beside each, as `birder shards` writes; None if one has none."""
    sizes: dict[str, dict[str, Any]] = {}
    total = 0
    for shard in shards:
        folder, slash, name = (
            shard.rpartition("/") if is_url(shard) else (str(Path(shard).parent), "/", Path(shard).name)
        )
        if folder not in sizes:
            try:
                found = read_json(f"{folder}{slash}sizes.json")
            except (OSError, ValueError, ConfigError):
                found = None
            sizes[folder] = found if isinstance(found, dict) else {}
        count = sizes[folder].get(name)
        if not isinstance(count, int):
            return None
        total += count
    return total
