"""What the HTTP interface answers with, as its OpenAPI description gives it."""

from __future__ import annotations

import math
from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

Kind = Literal["text", "number", "time", "boolean"]
Value = str | int | float | bool | None


class Problem(BaseModel):
    """Why a request failed, and what to do about it."""

    detail: str


class Model(BaseModel):
    """What made the embeddings."""

    name: str
    precision: str
    engine: str
    embedding_size: int


class Column(BaseModel):
    """A column, and in how many rows it has a value."""

    name: str
    type: Kind
    filled: int


class Abilities(BaseModel):
    """What can be asked for on this machine, and why something cannot."""

    search_text: bool
    text_by: Literal["encoder", "class names"] | None = Field(
        description="What texts are understood by; of a model without a text encoder, by the names of its classes."
    )
    search_image: bool
    predict: bool
    why: str | None = None


class MapState(BaseModel):
    """Whether there is a map; while it is computed, how far that is."""

    state: Literal["absent", "computing", "ready"]
    progress: float = Field(description="From 0 to 1.")
    stage: str
    points: int
    missing: int = Field(description="Rows of the collection that are not on the map.")
    laid_out: int | None = Field(description="How many images were laid out, if the others were placed by these.")
    can_compute: bool
    why: str | None = Field(description="Why it cannot be computed, or why computing failed.")


class MapSummary(BaseModel):
    """Whether there is a map."""

    state: Literal["absent", "computing", "ready"]
    points: int
    missing: int


class Tidying(BaseModel):
    """What `birder tidy` would bring."""

    worth: bool = Field(description="Whether tidying is worthwhile: much space to free, or many small pieces to join.")
    bytes: int = Field(description="Bytes of former versions of the rows; those of the last hour go with --now.")
    pieces: int = Field(description="Files that hold the rows.")
    pending: int = Field(description="Rows whose labels are in the journal alone so far.")


class CollectionInfo(BaseModel):
    """What the collection is and has."""

    name: str
    path: str = Field(description="Its folder, as `birder serve` was given it.")
    model: Model
    rows: int
    failures: int
    columns: list[Column]
    can: Abilities
    map: MapSummary
    writable: bool
    version: int = Field(description="Changes whenever rows or labels change.")
    tidy: Tidying
    ranks: list[str] = Field(description="The columns of taxonomic ranks, from kingdom to species.")
    technical_columns: list[str] = Field(description="The columns about files, in the order in which they are shown.")
    palette: list[str] = Field(description="Colours of categories as #rrggbb, for the most frequent first.")
    missing_colour: str = Field(description="The colour of images without a value.")


class Photo(BaseModel):
    """An image in a list."""

    id: str
    name: str = Field(description="Its path or uri, for display.")
    label: str | None
    width: int | None
    height: int | None
    v: str = Field(description="Identifies its content: a thumbnail's address with ?v= and this may be cached forever.")


class PredictedPhoto(Photo):
    """An image in a list, with what a model names it; without these fields where the collection has none."""

    predicted: str | None = None
    predicted_score: float | None = None
    rejected: str | None = Field(None, description="What somebody said that it does not show; ' | ' separates names.")
    sequence: str | None = Field(None, description="Where the collection has sequences.")
    values: dict[str, Value] = Field({}, description="Of the columns asked for; not there if none were.")


class Hit(Photo):
    """An image that was found, and the cosine of its embedding with the query's."""

    similarity: float | None = None


class Photos(BaseModel):
    """Part of a list of images."""

    total: int
    offset: int
    version: int
    photos: list[PredictedPhoto]


class Stack(BaseModel):
    """Images of one sequence, or one without a sequence."""

    count: int
    photos: list[PredictedPhoto] = Field(description="The first 50 of them.")


class StackList(BaseModel):
    """Part of a list of stacks."""

    total: int = Field(description="How many stacks there are.")
    images: int = Field(description="How many images they have together.")
    offset: int
    version: int
    stacks: list[Stack]


class StackIds(BaseModel):
    """All ids of a list of stacks."""

    total: int = Field(description="How many stacks there are.")
    version: int
    sizes: list[int] = Field(description="How many images each stack has.")
    ids: list[str] = Field(description="The ids of their images, stack by stack.")


class Ids(BaseModel):
    """All ids of a list."""

    total: int
    version: int
    ids: list[str]


class VideoOfFrame(BaseModel):
    """The video that an image is a frame of."""

    name: str = Field(description="The name of its file.")
    media_type: str
    seconds: float = Field(description="The time of the frame in the video.")


class PhotoDetails(BaseModel):
    """An image, and its row."""

    id: str
    uri: str
    name: str
    row: dict[str, Any]
    image: bool = Field(description="Whether its file is on this machine.")
    video: VideoOfFrame | None = Field(description="If it is a frame: of what, which /photos/{id}/video gives.")


class Rectangle(BaseModel):
    """Where a box is: fractions of the upright image, from its upper left corner."""

    x: float
    y: float
    width: float
    height: float


class BoxOnImage(PredictedPhoto):
    """A row that is a box on an image."""

    place: Rectangle
    category: str | None = Field(description="What a detector said it is: animal, person, vehicle.")
    confidence: float | None = Field(description="The detector's.")
    box: str | None = Field(description="What a person said of the box itself: right or wrong.")


class BoxesOfImage(BaseModel):
    """The rows that are of one image."""

    whole: str | None = Field(description="The id of the row of the whole image, if there is one.")
    boxes: list[BoxOnImage] = Field(description="From left to right; at most 300.")


class DrawnBox(BaseModel):
    """A box that was drawn, and the act that can be undone."""

    id: str = Field(description="Of its row.")
    act: str


class Hits(BaseModel):
    """Images, nearest first."""

    photos: list[Hit]


class SearchHits(Hits):
    """Images, nearest first, and what was searched for."""

    query: dict[str, Any]
    note: str | None = Field(None, description="What the similarities are, where they are not of embeddings.")


class FoundPhoto(Hit):
    """An image that was found, with values of the columns asked for; without these if none were."""

    values: dict[str, Value] = {}


class FoundPhotos(BaseModel):
    """Images, nearest first, and what was searched for."""

    photos: list[FoundPhoto]
    query: dict[str, Any]
    note: str | None = Field(description="What the similarities are, where they are not of embeddings.")


class KnownWord(BaseModel):
    """A text of words that classes are known by, and how many classes its last word stands for."""

    text: str
    classes: int


class KnownWords(BaseModel):
    """What a text may become, and why it cannot be searched for as it is."""

    words: list[KnownWord]
    problem: str | None


class ValueCount(BaseModel):
    """A value of a column, and in how many rows it is."""

    value: Value
    count: int


class Bin(BaseModel):
    """How many values lie from one number or time to another."""

    from_: float | str = Field(serialization_alias="from")
    to: float | str
    count: int


class ColumnValues(BaseModel):
    """The values of a column, in the order asked for."""

    type: Kind
    values: list[ValueCount]
    also: list[ValueCount] = Field([], description="The values asked for by name, in how many rows each is.")
    nulls: int
    distinct: int
    min: Value = None
    max: Value = None
    histogram: list[Bin] | None = None


class Place(BaseModel):
    """Where images were taken."""

    latitude: float
    longitude: float
    count: int = Field(description="How many images that match the filter.")
    names: list[str] = Field(description="The stations there, at most 20, the most frequent first.")
    further: int = Field(description="How many stations there are beside these.")
    exact: bool = Field(description="Whether its images are those whose station has one of the names.")
    box: tuple[float, float, float, float] = Field(
        description="The least and the greatest latitude of its images, and the same of the longitude."
    )


class PlacesOfImages(BaseModel):
    """All places of the collection, with the number of images at each."""

    station: str | None = Field(description="The column of an image's station, if there is one.")
    rounded: float = Field(description="The degrees that coordinates are rounded to.")
    total: int = Field(description="How many images match the filter.")
    nowhere: int = Field(description="How many of them have no coordinates, or impossible ones.")
    places: list[Place]


class SavedFilter(BaseModel):
    """A filter that somebody kept under a name."""

    name: str
    where: str
    shown: list[dict[str, Any]]


class SavedFilters(BaseModel):
    """The filters that are kept in the collection."""

    filters: list[SavedFilter]


class ExportFormat(BaseModel):
    """A format, and what is written in it."""

    name: str
    writes: str


class ExportFormats(BaseModel):
    """What the rows can be exported as."""

    formats: list[ExportFormat]


Match = Literal["value", "words", "beginnings", "parts"]


class ValueByWords(BaseModel):
    """A value of a text column, in how many images it is, and what of it the words are."""

    column: str
    value: str
    count: int
    match: Match


class ColumnByWords(BaseModel):
    """The values of a column that have the words of a text."""

    column: str
    distinct: int = Field(description="How many values.")
    count: int = Field(description="In how many images they are.")
    match: Match
    values: list[str] = Field(description="The values; empty if there are more than 100.")
    text: str


class FoundByWords(BaseModel):
    """What a text may mean: values of text columns that have its words."""

    values: list[ValueByWords] = Field(description="The closest first, then the most frequent.")
    more: int = Field(description="How many values there are beside them.")
    columns: list[ColumnByWords]
    together: list[ColumnByWords] = Field(description="Two columns, each with a part of the text; or none.")
    together_count: int = Field(description="How many images have both.")


class Failure(BaseModel):
    """A file that could not be read."""

    name: str
    reason: str
    failed_at: str | None


class Failures(BaseModel):
    """Part of the list of files that could not be read."""

    total: int
    failures: list[Failure]


class MapColumn(BaseModel):
    """A column's values, one a point of the map."""

    type: Literal["category", "number"]
    categories: list[str] | None = Field(None, description="Most frequent first; the last may be all others.")
    codes: list[int] | None = Field(None, description="Per point its category, -1 for none.")
    values: list[float | None] | None = None
    min: float | None = None
    max: float | None = None


class MapCluster(BaseModel):
    """A cluster of the map."""

    point: int = Field(description="The number of the point at its peak, in the order of /map/ids.")
    name: str = Field(description="Its most telling values; empty where none is telling.")
    count: int = Field(description="How many points it has: those that are nearer to its point than to any other's.")


class MapClusters(BaseModel):
    """The clusters of the map, the largest first."""

    clusters: list[MapCluster]


class GivenLabel(BaseModel):
    """What a label changed."""

    change: str
    column: str
    value: str | None
    changed: int


class GivenLabels(BaseModel):
    """What giving labels changed; of one label alone also what it is."""

    act: str
    changed: int
    can_undo: bool
    changes: list[GivenLabel]
    change: str = ""
    column: str = ""
    value: str | None = None


class TextCount(BaseModel):
    """A label, or none, and in how many rows it is."""

    value: str | None
    count: int


class PastAct(BaseModel):
    """An act of labelling."""

    act: str
    at: str
    by: str | None
    column: str
    values: list[TextCount] = Field(description="What it wrote; the most frequent, at most 5.")
    former: list[TextCount] = Field(description="What was there before; the most frequent, at most 5.")
    count: int
    ids: list[str] = Field(description="The first few images.")
    undone: bool


class History(BaseModel):
    """Acts of labelling, the latest first."""

    acts: list[PastAct]
    next: int | None = Field(description="Where the next part begins: ask for it with ?after=")
    total: int


class ActIds(BaseModel):
    """The images that an act of labelling changed."""

    act: str
    ids: list[str]


class PastShift(BaseModel):
    """A shift of times."""

    act: str
    at: str
    by: str | None
    where: str | None = Field(description="The filter that chose the rows; null for all.")
    seconds: float = Field(description="What was added to their times.")
    rows: int
    undone: bool


class Shifts(BaseModel):
    """Shifts of times, the latest first."""

    shifts: list[PastShift]


class Restored(BaseModel):
    """What undoing an act restored; rows that have been changed since are skipped."""

    act: str
    restored: int
    skipped: int


class Prediction(BaseModel):
    """A name, and how well it fits."""

    name: str
    score: float


class Predictions(BaseModel):
    """Names for an image, best first."""

    method: Literal["classifier", "examples", "classes", "none"]
    by: Literal["simpleshot", "knn"] | None = None
    column: str | None = None
    predictions: list[Prediction]
    note: str


class Embedding(BaseModel):
    """The embedding of an image."""

    embedding: list[float]
    model: str
    precision: str
    width: int
    height: int


class ClassCount(BaseModel):
    """A class of labels, and how many images have it."""

    name: str
    count: int


class Suggested(Photo):
    """An unlabelled image with the label that fits it best, and its probability."""

    score: float


class Suggestions(BaseModel):
    """Unlabelled images with suggested labels."""

    classes: list[ClassCount]
    photos: list[Suggested]
    note: str


class Interval(BaseModel):
    """An estimate with its interval of 95 %, and the number of images that it comes from."""

    estimate: float
    low: float | None
    high: float | None
    n: int
    interval: str = Field(description="How the interval was found.")


class TaughtClass(ClassCount):
    """A class of labels, and how many more labels it needs to be learned."""

    missing: int


class Confusion(BaseModel):
    """How often a class was taken for another."""

    true: str
    predicted: str
    count: int
    ids: list[str] = Field(description="Up to four of these images.")


class DoubtfulLabel(Photo):
    """An image whose label the classifier disagrees with, by a fit that had not seen it."""

    suggested: str
    score: float = Field(description="The probability of its label.")


class Nameable(BaseModel):
    """What can be named at a precision."""

    precision: float = Field(description="The share of the names given that should be right.")
    probability: float | None = Field(description="The lowest that a name then has; null if no probability will do.")
    share: Interval = Field(description="The share of held-out images that get a name.")
    images: int = Field(description="How many images without a label get a name.")


class Lesson(BaseModel):
    """What was learned from the labels, by cross-validation on images that the classifier had not seen."""

    accuracy: Interval
    note: str = Field(description="The accuracy as a sentence.")
    how: str = Field(description="How the images were divided, and what to look at first.")
    confusions: list[Confusion] = Field(description="The most frequent first.")
    doubtful: list[DoubtfulLabel] = Field(description="The most suspicious first, without those labelled anew since.")
    nameable: list[Nameable] = Field(description="At a precision of 90, 95 and 99 %.")
    rest: int = Field(description="How many images had no label.")
    unknown: int = Field(description="How many of them are unlike everything that was learned.")


class Taught(BaseModel):
    """What the labels of a column have taught a classifier so far, and what it wants next."""

    wanted: int = Field(description="The labels that a class needs.")
    wants: str = Field(description="What to label next, as a sentence; empty if there is nothing.")
    classes: list[TaughtClass]
    state: Literal["waiting", "computing", "ready"] = Field(description="waiting: for more labels.")
    progress: float = Field(description="Of the measurement under way, from 0 to 1.")
    stage: str
    problem: str = Field(description="Why nothing can be measured; else empty.")
    lesson: Lesson | None = Field(description="What was measured last.")


class TeachJob(BaseModel):
    """A computation that was asked for: how far it is, and what came of it."""

    state: Literal["none", "running", "done", "failed", "cancelled"]
    column: str | None = Field(description="Whose labels it learns from.")
    progress: float = Field(description="From 0 to 1.")
    stage: str
    note: str = Field(description="What was done, or why it failed.")
    file: str | None = Field(description="The name of the file that GET /teach/classifier sends.")
    bytes: int | None


class TeachJobs(BaseModel):
    """The two computations that can be asked for."""

    save: TeachJob
    name: TeachJob


class ToReview(Photo):
    """An image whose name awaits a decision."""

    predicted: str
    predicted_score: float
    rejected: str | None
    sequence: str | None


class Review(BaseModel):
    """The first images whose names await a decision, and what people have said so far."""

    photos: list[ToReview]
    total: int = Field(description="How many await a decision.")
    classes: list[ClassCount] = Field(description="Their names, the most frequent first.")
    agreement: Interval | None = Field(
        description="How often people agreed with predictions so far; null before the first decision."
    )
    note: str


class DuplicateGroup(BaseModel):
    """Images that show the same."""

    number: int = Field(description="Names the group in GET /duplicates/ids.")
    kind: Literal["same content", "similar"]
    count: int = Field(description="How many images; `photos` are at most 24 of them.")
    largest: str | None = Field(description="The id of the image with the most pixels.")
    first: str | None = Field(description="When the first of them was taken.")
    last: str | None = Field(description="When the last of them was taken.")
    stations: list[str] = Field(description="Up to three different values of the column `station` among them.")
    photos: list[Hit]


class Duplicates(BaseModel):
    """Groups of images that show the same; while they are looked for, how far that is."""

    state: Literal["computing", "ready"]
    progress: float = Field(description="From 0 to 1.")
    stage: str
    groups: list[DuplicateGroup]
    total: int
    by_graph: bool = Field(description="Whether a graph proposed which images to compare: some pairs may be missing.")
    images: int = Field(description="How many images are in groups.")
    station: str | None = Field(description="The column of an image's station, if there is one.")


class ValueShare(ValueCount):
    """A value of a column, in how many rows it is, and their share of all."""

    share: float


class Statistics(BaseModel):
    """What is in a column."""

    rows: list[ValueShare]


def plain(value: Any) -> Any:
    """A value as JSON can have it: times as ISO 8601, no NaN, no bytes."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return None
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value
