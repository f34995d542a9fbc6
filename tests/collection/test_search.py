from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from birder.collection import index as vector_index
from birder.collection import search as search_module
from birder.collection.filter import parse_filter
from birder.collection.index import make_index
from birder.collection.model import load_encoder_of
from birder.collection.search import search
from birder.collection.storage import Content, ModelCard, Row, Stamp, Storage
from birder.errors import (
    CollectionError,
    ConfigError,
    FilterError,
    ImageError,
    NoTextEncoderError,
    RowNotFoundError,
    UnknownNameError,
)
from birder.weights.clip import load_clip

WORDS = [
    *"=(),<+-",
    *("label", "owl", "'x'", "and", "or", "not", "in", "taken_at", "'2024-05-01'", "between", "3", "is"),
]
CLIP = Path(__file__).parents[1] / "data" / "openclip"
SIZE = 8
ROWS = 200
VECTORS = np.random.default_rng(0).normal(size=(ROWS, SIZE)).astype("f4")
NAMES = [f'o\'wl & "{n}".jpg' if n % 2 else f"50%_{n}.jpg" for n in range(ROWS)]


def card(size: int, source: str = "tiny", engine: str = "torch") -> ModelCard:
    return ModelCard("tiny", source, "ab" * 32, {"draft": True}, engine, "fp32", size)


def rows(vectors: npt.NDArray[np.float32]) -> Iterator[Row]:
    from birder.sources import path_to_uri

    for n, vector in enumerate(vectors):
        content = Content(vector, n, 20, datetime(2024, 1 + n % 12, 1 + n % 28, 12), None, None)
        columns = {"label": ["owl", "o'wl", None][n % 3], "family": f"F{n % 5}", "latitude": n / 10}
        yield Row(path_to_uri(f"/p/{NAMES[n]}"), f"{n:064x}", Stamp(1, 1), content, columns)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    made = Storage.create_or_open(tmp_path_factory.mktemp("c") / "c.birder", card(SIZE))
    with made.writing():
        made.write(list(rows(VECTORS)))
    return made


def unit(vectors: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)  # type: ignore[no-any-return]


def numbers(found: search_module.Found) -> list[int]:
    return [row["width"] for row in found.to_list()]


vectors_of = st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=4)


@given(wanted=vectors_of, unwanted=st.lists(st.integers(0, ROWS - 1), max_size=3), k=st.integers(1, 250))
@settings(max_examples=30, deadline=None)
def test_order_and_similarity_are_those_of_brute_force(
    collection: Storage, wanted: list[int], unwanted: list[int], k: int
) -> None:
    likes = [VECTORS[n] * 3 + 0.1 for n in wanted]
    unlikes = [VECTORS[n] + 0.2 for n in unwanted]
    scores = (unit(VECTORS) @ unit(np.array(likes)).T).mean(axis=1)
    if unlikes:
        scores -= (unit(VECTORS) @ unit(np.array(unlikes)).T).mean(axis=1)
    found = search(collection, vectors=likes, unlike=unlikes, k=k)
    assert len(found) == min(k, ROWS)
    similarities = [row["similarity"] for row in found.to_list()]
    np.testing.assert_allclose(similarities, np.sort(scores)[::-1][:k], atol=1e-5)
    np.testing.assert_allclose(similarities, scores[numbers(found)], atol=1e-5)
    assert len(set(numbers(found))) == len(found)


@given(
    label=st.sampled_from([None, "owl", "o'wl", "none"]),
    family=st.integers(0, 5),
    since=st.datetimes(datetime(2023, 12, 1), datetime(2025, 1, 1)),
    latitude=st.floats(-1, 21),
)
@settings(max_examples=30, deadline=None)
def test_a_filter_chooses_the_rows_that_numpy_does(
    collection: Storage, label: str | None, family: int, since: datetime, latitude: float
) -> None:
    quoted = "label IS NULL" if label is None else "label = '" + label.replace("'", "''") + "'"
    where = f"({quoted} OR family = 'F{family}') AND taken_at >= '{since.isoformat()}' AND latitude < {latitude!r}"
    n = np.arange(ROWS)
    labels = np.array(["owl", "o'wl", None], object)[n % 3]
    taken = [datetime(2024, 1 + i % 12, 1 + i % 28, 12) for i in range(ROWS)]
    chosen = ((labels == label) | (n % 5 == family)) & np.array([t >= since for t in taken]) & (n / 10 < latitude)
    found = search(collection, where=where, k=ROWS)
    assert sorted(numbers(found)) == n[chosen].tolist()
    assert found.matching == chosen.sum()
    uris = [row["uri"] for row in found.to_list()]
    assert uris == sorted(uris)
    query = VECTORS[0] + 0.5
    order = n[chosen][np.argsort(-(unit(VECTORS[chosen]) @ query), kind="stable")]
    assert numbers(search(collection, vectors=[query], where=where, k=7)) == order[:7].tolist()


def test_rows_are_named_by_id_uri_path_and_file_name(collection: Storage) -> None:
    (row,) = search(collection, where="width = 7").to_list()
    expected = [int(i) for i in np.argsort(-(unit(VECTORS) @ unit(VECTORS[7]))) if i != 7][:5]
    for key in (row["id"], row["uri"], f"/p/{NAMES[7]}", NAMES[7]):
        assert numbers(search(collection, ids=[key], k=5)) == expected
    assert 8 in numbers(search(collection, ids=[NAMES[7]], k=ROWS))
    assert numbers(search(collection, ids=[NAMES[8]], k=ROWS))  # 50%_8.jpg: no wildcards of LIKE's
    for key in ("5%_8.jpg", "50_8.jpg", "' OR true --", "", "\0", "8.jpg"):
        with pytest.raises(RowNotFoundError, match="has no row"):
            search(collection, ids=[key])


def test_several_files_of_one_name_are_reported(tmp_path: Path) -> None:
    made = Storage.create_or_open(tmp_path / "c.birder", card(SIZE))
    with made.writing():
        for folder in "ab":
            content = Content(VECTORS[0], 1, 1, None, None, None)
            made.write([Row(f"file:///{folder}/owl.jpg", folder * 64, Stamp(1, 1), content)])
    with pytest.raises(CollectionError, match="Several rows are named 'owl.jpg'.*file:///a/owl.jpg"):
        search(made, ids=["owl.jpg"])


def test_unlike_lowers_what_is_like_it_and_leaves_it_out(collection: Storage) -> None:
    plain = {row["width"]: row["similarity"] for row in search(collection, ids=[NAMES[3]], k=ROWS).to_list()}
    less = {
        row["width"]: row["similarity"]
        for row in search(collection, ids=[NAMES[3]], unlike=[NAMES[9]], k=ROWS).to_list()
    }
    assert set(plain) - set(less) == {9}
    cosines = unit(VECTORS) @ unit(VECTORS[9])
    for n, similarity in less.items():
        assert similarity == pytest.approx(plain[n] - cosines[n], abs=1e-5)
    (furthest, *_) = numbers(search(collection, unlike=[VECTORS[9]]))
    assert furthest == int(np.argmin(cosines))


def test_results_in_three_forms_with_the_columns_asked_for(collection: Storage) -> None:
    found = search(collection, ids=[NAMES[3]], columns=["label", "taken_at"], k=2)
    assert found.to_arrow().column_names == ["similarity", "label", "taken_at"]
    assert found.to_arrow().to_pylist() == found.to_list()
    assert found.to_pandas()["similarity"].tolist() == [row["similarity"] for row in found.to_list()]
    assert found.to_pandas()["taken_at"].tolist() == [row["taken_at"] for row in found.to_list()]
    assert list(search(collection, ids=[NAMES[3]], k=1).to_list()[0]) == [
        "similarity",
        *(name for name in collection.columns if name != "embedding"),
    ]
    assert search(collection, where="label = 'nobody'").to_list() == []
    assert search(collection, vectors=[VECTORS[0]], where="label = 'nobody'").to_list() == []


def test_impossible_queries_are_reported(collection: Storage, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Nothing to search by"):
        search(collection)
    with pytest.raises(ConfigError, match="at least one row"):
        search(collection, ids=[NAMES[0]], k=0)
    with pytest.raises(UnknownNameError, match="label"):
        search(collection, ids=[NAMES[0]], columns=["labl"])
    for vector in (np.zeros(SIZE, "f4"), np.ones(SIZE + 1, "f4"), np.full(SIZE, np.nan, "f4")):
        with pytest.raises(CollectionError, match="8-dimensional"):
            search(collection, vectors=[vector])
    with pytest.raises(CollectionError, match="cancel each other out"):
        search(collection, ids=[NAMES[0]], unlike=[NAMES[0]])
    with pytest.raises(NoTextEncoderError, match="--model imageomics/bioclip. Without texts: search by images"):
        search(collection, texts=["an owl"])


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("label = 'owl'; DROP TABLE images", "a single expression"),
        ("label = 'owl' -- everything", "comments are not allowed"),
        ("label = 'owl' /* x */", "comments are not allowed"),
        ("label IN (SELECT label FROM images)", "subqueries are not allowed"),
        ("EXISTS (SELECT 1)", "unknown function 'exists'"),
        ("label = 'owl') OR (true", "closed that was not opened"),
        ("(label = 'owl'", "bracket is not closed"),
        ("label = 'owl' ORDER BY label", "syntax error"),
        ("label = 'owl' LIMIT 3", "syntax error"),
        ("count(*) > 1", "unknown function 'count'"),
        ("\"count\"(width) > 1", "unknown function 'count'"),
        ("repeat(label, 1000000000) = 'x'", "unknown function 'repeat'"),
        ("$1 = 2", r"unexpected '\$1'"),
        ("label = ?", r"unexpected '\?'"),
        ("label = N'owl'", "unexpected"),
        ("label = 'owl", "not closed"),
        ("a\0b", "unexpected"),
        ("", "empty"),
        ("  ", "empty"),
        ("label", "boolean"),
        ("labl = 'owl'", "unknown column 'labl'. Did you mean 'label'"),
        ("label = ", "syntax error"),
        ("width / 0 > 1", "[Dd]ivide by zero"),
        ("taken_at > 'yesterday'", "'yesterday' is not a time"),
        ("taken_at > '2024-05-01T10:00+02:00'", "leave the zone out"),
        (" + ".join(["width"] * 5_000) + " > 3", "more than"),
        ("(" * 5_000 + "true" + ")" * 5_000, "more than"),
        (" AND ".join(["true"] * 5_000), "more than"),
        ("label = '" + "x" * 2_000_000 + "'", "longer than"),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_an_invalid_filter_is_refused_and_changes_nothing(
    collection: Storage, where: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = collection.version
    queries: list[list[npt.NDArray[np.float32]]] = [[], [VECTORS[0]]]
    for vectors in queries:
        with pytest.raises(FilterError, match=reason) as error:
            search(collection, where=where, vectors=vectors)
        assert len(str(error.value)) < 1_000
    assert Storage.open(collection.path).version == before
    assert collection.count() == ROWS
    assert "panicked" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ("taken_at >= '2024-12-01'", 16),
        ("'2024-12-01' <= Taken_At AND uri != '; -- ?'", 16),
        ("taken_at BETWEEN '2024-12-01' AND '2024-12-31T23:59:59'", 16),
        ("taken_at NOT BETWEEN '2024-01-01' AND '2024-11-30'", 16),
        ("`taken_at` IN ('2024-12-12T12:00', '2024-12-24 12:00:00')", 6),
        ("taken_at >= timestamp '2024-12-01' AND modified < '2024-01-01T00:00:00Z'", 16),
        ("date_part('month', taken_at) = 12", 16),
        ("label IN ('o''wl') AND (width < 10 OR NOT (width < 190))", 7),
        ("starts_with(family, 'F1') AND \"order\" IS NULL", 40),
        ("label = 'owl' OR label IN (" + ", ".join(f"'{n}'" for n in range(20_000)) + ")", 67),
    ],
)
def test_a_valid_filter_matches_these_rows(collection: Storage, where: str, count: int) -> None:
    assert search(collection, where=where, k=ROWS).matching == count


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_filter_or_is_refused(collection: Storage, where: str) -> None:
    try:
        found = search(collection, where=where, columns=["width"])
    except FilterError:
        return
    assert 0 <= (found.matching or 0) <= ROWS


@given(
    st.lists(
        st.sampled_from(WORDS),
        max_size=12,
    )
)
@settings(max_examples=200, deadline=None)
def test_any_words_of_filters_are_a_filter_or_are_refused(collection: Storage, words: list[str]) -> None:
    with contextlib.suppress(FilterError):
        search(collection, where=" ".join(words), columns=["width"])


def test_a_parsed_filter_keeps_its_texts() -> None:
    columns = {"label": pa.string(), "taken_at": pa.timestamp("us")}
    assert parse_filter("label = 'a''; DROP -- '", columns).sql == "(label = 'a''; DROP -- ')"
    assert parse_filter("taken_at>'2024-05-01'", columns).sql == "(taken_at>timestamp '2024-05-01T00:00:00')"
    assert parse_filter("label = '2024-05-01'", columns).sql == "(label = '2024-05-01')"


@pytest.fixture(scope="module")
def of_clip(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """Images embedded by the image encoder of the tiny CLIP."""
    from birder.cli.convert import convert
    from birder.collection.model import load_encoder

    home = tmp_path_factory.mktemp("clip")
    convert(str(CLIP), home / "vit_s16_pn_tiny.pt")
    source = Image.open(CLIP.parent / "chelsea.png").convert("RGB")
    encoder = load_encoder(str(home / "vit_s16_pn_tiny.pt"), engine="torch", precision="fp32")
    made = Storage.create_or_open(home / "c.birder", encoder.card)
    content = []
    for n in range(12):
        source.crop((15 * n, 6 * n, 15 * n + 224, 6 * n + 224)).save(home / f"{n}.png")
        vector = encoder.embed_one(home / f"{n}.png")
        content.append(
            Row((home / f"{n}.png").as_uri(), f"{n:064x}", Stamp(1, 1), Content(vector, n, 1, None, None, None))
        )
    with made.writing():
        made.write(content)
    return made


def test_texts_are_compared_in_the_space_of_both_encoders(of_clip: Storage) -> None:
    clip = load_clip(CLIP)
    encoder = load_encoder_of(of_clip, "cpu", engine="torch")
    home = of_clip.path.parent
    pixels = torch.stack([encoder.transform(Image.open(home / f"{n}.png")) for n in range(12)])
    images = unit(clip.encode_image(pixels).numpy())  # as the whole model has them, from the images
    texts = unit(clip.encode_text(["a cat", "a green frog"]).numpy())
    found = search(of_clip, texts=["a cat"], clip=clip, k=12).to_list()
    for row in found:
        assert row["similarity"] == pytest.approx(images[row["width"]] @ texts[0], abs=2e-4)
    assert [row["similarity"] for row in found] == sorted((row["similarity"] for row in found), reverse=True)
    assert len(found) == 12

    mixed = search(
        of_clip, texts=["a cat"], images=[home / "3.png"], unlike=["a green frog"], clip=clip, encoder=encoder, k=12
    ).to_list()
    assert {row["width"] for row in mixed} == {*range(12)} - {3}  # the image that was asked with is left out
    for row in mixed:
        mine = images[row["width"]]
        expected = (mine @ texts[0] + mine @ images[3]) / 2 - mine @ texts[1]
        assert row["similarity"] == pytest.approx(expected, abs=3e-4)
    filtered = search(of_clip, texts=["a cat"], where="width > 7", clip=clip, columns=["width"], k=3).to_list()
    assert filtered == [{k: r[k] for k in ("similarity", "width")} for r in found if r["width"] > 7][:3]


def test_a_query_image_is_left_out_and_a_broken_one_reported(of_clip: Storage) -> None:
    encoder = load_encoder_of(of_clip, "cpu", engine="torch")
    home = of_clip.path.parent
    assert 5 not in numbers(search(of_clip, images=[home / "5.png"], encoder=encoder))
    (home / "bad.png").write_bytes(b"")
    with pytest.raises(ImageError, match="bad.png.*Choose another"):
        search(of_clip, encoder=encoder, images=[home / "bad.png"])
    with pytest.raises(ImageError, match="bad.png.*Choose another"):
        search(of_clip, encoder=encoder, unlike=[home / "bad.png"])


def test_texts_in_an_imported_collection_of_image_features(of_clip: Storage, tmp_path: Path) -> None:
    clip = load_clip(CLIP)
    encoder = load_encoder_of(of_clip, "cpu", engine="torch")
    home = of_clip.path.parent
    pixels = torch.stack([encoder.transform(Image.open(home / f"{n}.png")) for n in range(12)])
    features = clip.encode_image(pixels).numpy()
    made = Storage.create_or_open(tmp_path / "c.birder", card(features.shape[1], source=str(CLIP), engine="import"))
    with made.writing():
        made.write(
            [
                Row(f"urn:{n}", f"{n:064x}", Stamp(1, 1), Content(f, n, 1, None, None, None))
                for n, f in enumerate(features)
            ]
        )
    text = unit(clip.encode_text(["a cat"]).numpy()[0])
    scores = unit(features) @ text
    found = search(made, texts=["a cat"], k=12)  # its model is loaded by the name on its card
    assert numbers(found) == np.argsort(-scores).tolist()
    assert numbers(search(made, images=[home / "4.png"], k=1)) == [4]


class Projection:
    """The two halves of a model, as far as the shared space goes."""

    def __init__(self, size: int, shared: int) -> None:
        self.embedding_size = shared
        self.matrix = torch.from_numpy(np.random.default_rng(1).normal(size=(size, shared)).astype("f4"))
        self.transform = None

    def project(self, embedding: torch.Tensor, normalize: bool = False) -> torch.Tensor:
        return embedding @ self.matrix

    def encode_text(self, texts: list[str], normalize: bool = False) -> torch.Tensor:
        features = [np.random.default_rng(len(text)).normal(size=self.matrix.shape[1]) for text in texts]
        return torch.from_numpy(np.array(features, "f4"))


def test_texts_find_the_same_by_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    centres = random.normal(size=(30, 32))
    vectors = (centres[random.integers(0, 30, 4_000)] + 0.5 * random.normal(size=(4_000, 32))).astype("f4")
    made = Storage.create_or_open(tmp_path / "c.birder", card(32))
    with made.writing():
        made.write(
            [
                Row(f"urn:{n}", f"{n:064x}", Stamp(1, 1), Content(v, n, 1, None, None, None))
                for n, v in enumerate(vectors)
            ]
        )
    clip: Any = Projection(32, 24)
    queries = ["x" * n for n in range(1, 11)]
    exact = [numbers(search(made, texts=[text], clip=clip, k=10)) for text in queries]
    projected = unit(vectors @ clip.matrix.numpy())
    for text, found in zip(queries, exact, strict=True):
        assert found == np.argsort(-(projected @ clip.encode_text([text]).numpy()[0]))[:10].tolist()
    make_index(made)
    monkeypatch.setattr(search_module, "AUTOMATIC", 1_000)
    monkeypatch.setattr(search_module, "_TEXT_CANDIDATES", 1_000)
    scanned: list[int] = []
    whole = vector_index.nearest_rows

    def counted(collection: Storage, vector: npt.NDArray[np.float32], k: int, **more: Any) -> vector_index.NearestRows:
        scanned.append(k)
        return whole(collection, vector, k, **more)

    monkeypatch.setattr(search_module, "nearest_rows", counted)
    by_index = [numbers(search(made, texts=[text], clip=clip, k=10)) for text in queries]
    assert scanned == [1_000] * 10
    right = sum(len({*a} & {*b}) for a, b in zip(exact, by_index, strict=True))
    assert right >= 95
    assert numbers(search(made, texts=["xx"], clip=clip, k=10, exact=True)) == exact[1]
