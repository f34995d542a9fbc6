"""Classifiers as files: what is written is read again, in this package's networks, and nothing broken is taken."""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from birder import registry
from birder.errors import BirderError, ConfigError, UnknownNameError, WeightsError
from birder.inference.classifier import Classifier
from birder.weights import backbone
from birder.weights.backbone import backbone_sha256
from birder.weights.checkpoint import (
    MAX_EXAMPLE_BYTES,
    Checkpoint,
    make_signature,
    read_checkpoint,
    write_checkpoint,
)
from birder.weights.describe import describe_model
from birder.weights.head import Head, load_head, published_note, save_head
from birder.weights.hub import cache_folder
from birder.weights.load import LoadedModel
from birder.weights.resolve import Kind, resolve
from tests.classifiers import CLASSES, RGB, SMALL, adaptation_of, head_of, network_file

CONFIGS: dict[str, dict[str, Any]] = {
    "projection without bias": SMALL | {"head_bias": False},
    "hidden layer": SMALL | {"mlp_head": True},
    "plain": SMALL,
}
ENDINGS = pytest.mark.parametrize("ending", [".pt", ".safetensors"])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return resolve(network_file(tmp_path_factory.mktemp("model") / "vit_b16_pn_tiny.pt")).load_image_encoder()


def assert_same(first: Head, second: Head) -> None:
    assert first.classes == second.classes
    np.testing.assert_array_equal(first.weight, second.weight)
    np.testing.assert_array_equal(first.bias, second.bias)
    assert first.adaptation == second.adaptation
    assert (first.examples is None) == (second.examples is None)
    if first.examples is not None and second.examples is not None:
        np.testing.assert_array_equal(first.examples, second.examples)


@ENDINGS
def test_classes_in_numpys_texts_need_no_pickle(model: LoadedModel, tmp_path: Path, ending: str) -> None:
    head = head_of(model, classes=tuple(np.array(CLASSES)))
    assert_same(load_head(save_head(tmp_path / f"owls{ending}", head, model=model)), head)


@ENDINGS
@pytest.mark.parametrize("examples", [True, False])
def test_a_checkpoint_holds_the_classifier_and_the_network(
    model: LoadedModel, tmp_path: Path, ending: str, examples: bool
) -> None:
    head = head_of(model) if examples else head_of(model, examples=None)
    path = save_head(tmp_path / f"owls{ending}", head, model=model)
    assert_same(load_head(path), head)
    loaded = resolve(path).load_image_encoder()  # the file, not its name, tells the network
    assert loaded.info.class_to_idx == {name: index for index, name in enumerate(CLASSES)}
    assert loaded.info.rgb_stats == RGB
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.net.embedding(x), model.net.embedding(x), rtol=0, atol=0)
        expected = model.net.embedding(x).numpy() @ head.weight.T + head.bias
        np.testing.assert_allclose(loaded.net(x).numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("outputs", [0, 4])
def test_networks_of_every_head_get_a_plain_linear_one(tmp_path: Path, config: dict[str, Any], outputs: int) -> None:
    model = resolve(network_file(tmp_path / "vit_b16_pn_x.pt", outputs=outputs, config=config)).load_image_encoder()
    head = head_of(model)
    loaded = resolve(save_head(tmp_path / "owls.safetensors", head, model=model)).load_image_encoder()
    assert {name for name, _ in loaded.net.classifier.named_parameters()} == {"weight", "bias"}
    assert_same(load_head(tmp_path / "owls.safetensors"), head)


def test_a_detached_head_is_read_again_and_finds_its_backbone(
    model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network_file(tmp_path / "vit_b16_pn_tiny.pt")
    (tmp_path / "w.toml").write_text('[weights.tiny]\nnetwork = "vit_b16_pn"\npath = "vit_b16_pn_tiny.pt"\n')
    monkeypatch.setenv("BIRDER_WEIGHTS", str(tmp_path / "w.toml"))
    registry._tables.cache_clear()
    adaptation = adaptation_of(model)
    adaptation["backbone"] |= {"name": "tiny", "weights_sha256": None}
    head = head_of(model, adaptation=adaptation)
    path = save_head(tmp_path / "owls.safetensors", head, model=None)
    assert path == tmp_path / "owls.head.safetensors"
    assert_same(load_head(path), head)
    found = resolve(path)
    assert (found.kind, found.name, found.has_classes, found.network) == (Kind.head, "owls.head", True, "vit_b16_pn")
    assert found.image_encoder_is_here()
    assert found.encoder() == resolve("tiny")
    loaded = found.load_image_encoder()
    assert (loaded.name, list(loaded.info.class_to_idx)) == ("owls.head", list(CLASSES))
    x = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        expected = model.net.embedding(x).numpy() @ head.weight.T + head.bias
        np.testing.assert_allclose(loaded.net(x).numpy(), expected, rtol=1e-5, atol=1e-5)
    network_file(tmp_path / "vit_b16_pn_tiny.pt", seed=1)  # other weights under the same name
    with pytest.raises(WeightsError, match="get the weights that it was made for"):
        found.load_image_encoder()
    registry._tables.cache_clear()


@pytest.fixture(autouse=True)
def own_registry() -> Iterator[None]:
    yield
    registry._tables.cache_clear()


def test_a_detached_head_whose_backbone_has_no_name_here_says_so(model: LoadedModel, tmp_path: Path) -> None:
    path = save_head(tmp_path / "owls.head.safetensors", head_of(model), model=None)
    assert not resolve(path).image_encoder_is_here()
    with pytest.raises(WeightsError, match="classifier alone, and its backbone, vit_b16_pn_tiny.*--in COLLECTION"):
        resolve(path).load_image_encoder()
    with pytest.raises(BirderError, match="no text encoder"):
        resolve(path).text_encoder()


def test_the_same_classifier_gives_the_same_bytes(model: LoadedModel, tmp_path: Path) -> None:
    for name in ("owls.pt", "owls.safetensors"):
        written = set()
        for folder in "abcd":
            save_head(tmp_path / folder / name, head_of(model), model=model)
            written.add((tmp_path / folder / name).read_bytes())
        assert len(written) == 1
    (tmp_path / "any file").touch()
    modes = {path.stat().st_mode for path in (tmp_path / "a").iterdir()}
    assert modes == {(tmp_path / "any file").stat().st_mode}
    detached = {save_head(tmp_path / f"{n}.safetensors", head_of(model), model=None).read_bytes() for n in "abcd"}
    assert len(detached) == 1


def test_the_sum_of_a_backbone_is_that_of_its_tensors_alone(model: LoadedModel, tmp_path: Path) -> None:
    own = backbone_sha256(model.net.state_dict())
    checkpoint = read_checkpoint(network_file(tmp_path / "a.pt"))
    assert backbone_sha256(checkpoint.state) == own
    half = {key: value.half() for key, value in checkpoint.state.items()}
    files = {
        "st.safetensors": checkpoint.state,
        "half.pt": half,
        "half.safetensors": half,
    }
    sums = {}
    for name, state in files.items():
        write_checkpoint(tmp_path / name, replace(checkpoint, state=state))
        sums[name] = backbone_sha256(read_checkpoint(tmp_path / name).state)
    assert sums["st.safetensors"] == own
    assert sums["half.pt"] == sums["half.safetensors"] != own  # rounded weights are others
    # ... but a file in half precision, and the network that was loaded from it, are the same.
    shutil.copy(tmp_path / "half.pt", tmp_path / "vit_b16_pn_half.pt")
    assert (
        backbone_sha256(resolve(tmp_path / "vit_b16_pn_half.pt").load_image_encoder().net.state_dict())
        == (sums["half.pt"])
    )
    other = checkpoint.state | {"classifier.weight": torch.zeros(9, 32), "classifier.bias": torch.zeros(9)}
    assert backbone_sha256(other) == own
    name = next(key for key in checkpoint.state if not key.startswith("classifier."))
    assert backbone_sha256(checkpoint.state | {name: checkpoint.state[name] + 1}) != own
    renamed = {f"{key}x" if key == name else key: value for key, value in checkpoint.state.items()}
    assert backbone_sha256(renamed) != own
    assert backbone_sha256({"a": torch.zeros(2, 3)}) != backbone_sha256({"a": torch.zeros(3, 2)})
    assert backbone_sha256({"a": torch.zeros(2, dtype=torch.int32)}) != backbone_sha256({"a": torch.zeros(2)})
    assert backbone_sha256({"a": torch.tensor(3)}) != backbone_sha256({"a": torch.zeros(0)})


def test_the_sum_is_computed_once_for_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = resolve(network_file(tmp_path / "vit_b16_pn_once.pt", seed=5)).fetch()
    first = weights.backbone_sha256()
    monkeypatch.setattr(backbone, "backbone_sha256", lambda state: pytest.fail("computed again"))
    assert weights.backbone_sha256() == first
    monkeypatch.undo()
    kept = cache_folder() / "backbones" / weights.sha256
    assert kept.read_text() == first
    kept.write_text("half")  # of a process that was killed in another time
    assert weights.backbone_sha256() == first


def test_a_classifier_of_another_network_is_not_saved_in_this_one(model: LoadedModel, tmp_path: Path) -> None:
    other = resolve(network_file(tmp_path / "vit_b16_pn_other.pt", seed=3)).load_image_encoder()
    with pytest.raises(WeightsError, match="vit_b16_pn_tiny.*not vit_b16_pn_other"):
        save_head(tmp_path / "owls.pt", head_of(model), model=other)
    assert not (tmp_path / "owls.pt").exists()


def test_names_and_sizes_that_are_refused(model: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"ends in \.pt or \.safetensors"):
        save_head(tmp_path / "owls.zip", head_of(model), model=model)
    with pytest.raises(ConfigError, match="name of a detached head"):
        save_head(tmp_path / "owls.head.safetensors", head_of(model), model=model)
    with pytest.raises(ConfigError, match=r"end it in \.head\.safetensors"):
        save_head(tmp_path / "owls.pt", head_of(model), model=None)
    many = np.zeros((MAX_EXAMPLE_BYTES // 32 + 1, 32), np.int8)
    with pytest.raises(ConfigError, match=f"at most {MAX_EXAMPLE_BYTES // 32:,}"):
        save_head(tmp_path / "owls.pt", head_of(model, examples=many), model=None)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_as_many_examples_as_a_file_takes(model: LoadedModel, tmp_path: Path) -> None:
    full = np.random.default_rng(0).integers(-127, 128, (MAX_EXAMPLE_BYTES // 32, 32), np.int8)
    path = save_head(tmp_path / "owls.safetensors", head_of(model, examples=full), model=model)
    read = load_head(path).examples
    assert read is not None
    np.testing.assert_array_equal(read, full)


def test_checkpoints_that_adapt_did_not_write(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="has no class names"):
        load_head(network_file(tmp_path / "vit_b16_pn_nameless.pt"))
    whole = read_checkpoint(network_file(tmp_path / "vit_b16_pn_x.pt"))
    named = replace(whole, class_to_idx={"owl": 1, "fox": 0})  # fewer names than outputs, as elsewhere
    head = load_head(write_checkpoint(tmp_path / "vit_b16_pn_named.safetensors", named))
    assert head.classes == ("fox", "owl", "2", "3", "4")
    assert (head.adaptation, head.examples, head.backbone) == ({}, None, {})
    layers = read_checkpoint(network_file(tmp_path / "vit_b16_pn_deep.pt", config=SMALL | {"mlp_head": True}))
    path = write_checkpoint(tmp_path / "vit_b16_pn_deep2.pt", replace(layers, class_to_idx={"owl": 0}))
    with pytest.raises(WeightsError, match="not one linear layer"):
        load_head(path)
    detector = replace(named, task="object_detection")
    with pytest.raises(WeightsError, match="is for object_detection"):
        load_head(write_checkpoint(tmp_path / "d.pt", detector))


def test_files_of_classifiers_are_described(model: LoadedModel, tmp_path: Path) -> None:
    whole = describe_model(str(save_head(tmp_path / "owls.safetensors", head_of(model), model=model)))
    assert (whole["network"], whole["class names"], whole["learned from column"]) == ("vit_b16_pn", 3, "species")
    assert whole["cross-validated accuracy"] == "80.0% (70.0% to 90.0%)"
    alone = describe_model(str(save_head(tmp_path / "owls.safetensors", head_of(model), model=None)))
    assert (alone["backbone"], alone["embedding dimension"], alone["class names"]) == ("vit_b16_pn_tiny", 32, 3)
    assert alone["backbone's sha256"] == backbone_sha256(model.net.state_dict())
    assert alone["cross-validated accuracy"] == whole["cross-validated accuracy"]


def test_networks_that_the_published_package_lacks_are_told() -> None:
    assert published_note("vit_b16_pn") is None
    assert "efficientnet_lite0, computes differently" in str(published_note("tf_efficientnet_lite0"))


def test_the_classifier_of_the_facade_goes_through_files(model: LoadedModel, tmp_path: Path) -> None:
    head = head_of(model)
    classifier = Classifier(head.classes, head.weight, head.bias, head.adaptation, head.examples)
    x = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)
    for path in (
        classifier.save(tmp_path / "owls.pt", model=model),
        classifier.save(tmp_path / "owls.safetensors", model=model),
        classifier.save(tmp_path / "owls.safetensors"),
    ):
        again = Classifier.load(path)
        np.testing.assert_array_equal(again.predict_proba(x), classifier.predict_proba(x))
        np.testing.assert_array_equal(again.unknown_score(x), classifier.unknown_score(x))
        assert again.sets(x) == classifier.sets(x)
        assert again.deepest(x, 0.95) == classifier.deepest(x, 0.95)


# Files that are broken, or made to harm


def broken(model: LoadedModel, what: str) -> dict[str, Any]:
    """Changes to the adaptation that no run of adapt writes."""
    good = adaptation_of(model)
    return {
        "no backbone": {key: value for key, value in good.items() if key != "backbone"},
        "another dimension": good | {"backbone": good["backbone"] | {"dimension": 31}},
        "a sum that is none": good | {"backbone": good["backbone"] | {"sha256": "../../etc/passwd"}},
        "a name that is none": good | {"backbone": good["backbone"] | {"name": 7}},
        "metrics in a list": good | {"metrics": [0.8]},
        "a metric without an estimate": good | {"metrics": {"top1": {"estimate": "high"}}},
        "no k": good | {"unknown": {"threshold": 0.5}},
        "no threshold": good | {"unknown": {"k": 3, "threshold": "high"}},
        "a quantile too few": good | {"conformal": {"level": 0.9, "quantiles": {"owl": 0.3}}},
        "quantiles in a list": good | {"conformal": {"level": 0.9, "quantiles": [0.3]}},
        "ranks in a list": good | {"ranks": ["order"]},
        "taxa in a list": good | {"ranks": good["ranks"] | {"taxa": []}},
        "a threshold without precision": good | {"ranks": good["ranks"] | {"thresholds": {"order": {"0.95": {}}}}},
    }[what]


@pytest.mark.parametrize("kind", [".pt", ".safetensors", ".head.safetensors"])
@pytest.mark.parametrize(
    "what",
    [
        "no backbone",
        "another dimension",
        "a sum that is none",
        "a name that is none",
        "metrics in a list",
        "a metric without an estimate",
        "no k",
        "no threshold",
        "a quantile too few",
        "quantiles in a list",
        "ranks in a list",
        "taxa in a list",
        "a threshold without precision",
    ],
)
def test_an_adaptation_that_cannot_be(model: LoadedModel, tmp_path: Path, what: str, kind: str) -> None:
    path = write_raw(tmp_path / f"owls{kind}", model, adaptation=json.dumps(broken(model, what)))
    with pytest.raises(WeightsError, match="is damaged") as error:
        load_head(path)
    assert str(path) in str(error.value)


def write_raw(path: Path, model: LoadedModel, **changes: Any) -> Path:
    """A file with some fields as no careful writer leaves them."""
    head = head_of(model)
    if path.name.endswith(".head.safetensors"):
        tensors = {
            "weight": torch.from_numpy(head.weight),
            "bias": torch.from_numpy(head.bias),
            "examples": torch.from_numpy(np.array(head.examples)),
        }
        texts = {
            "format": "birder-head-1",
            "classes": json.dumps(list(CLASSES)),
            "adaptation": json.dumps(head.adaptation),
        }
        for key, value in changes.items():
            if key in ("weight", "bias", "examples", "more"):
                tensors[key] = value
            else:
                texts[key] = value
        safetensors.torch.save_file(
            {key: value for key, value in tensors.items() if value is not None},
            path,
            metadata={key: value for key, value in texts.items() if value is not None},
        )
        return path
    base = path.with_name(f"good{path.suffix}")  # read as it lies on the disk, so it must stay as it is
    good = read_checkpoint(save_head(base, head, model=model))
    state = dict(good.state)
    for key in ("weight", "bias"):
        if key in changes:
            state[f"classifier.{key}"] = changes.pop(key)
    if path.suffix == ".pt":
        values = torch.load(base, weights_only=True)
        torch.save(values | {"state": state} | changes, path)
    else:
        with safetensors.safe_open(base, framework="pt") as file:
            texts = dict(file.metadata())
        safetensors.torch.save_file(state, path, metadata=texts | changes)
    return path


TENSORS: dict[str, Any] = {
    "a weight of whole numbers": {"weight": torch.ones(3, 32, dtype=torch.int64)},
    "a weight that is a vector": {"weight": torch.ones(32)},
    "a weight of nothing": {"weight": torch.ones(0, 32)},
    "a weight that is infinite": {"weight": torch.full((3, 32), torch.inf)},
    "a bias that is NaN": {"bias": torch.full((3,), torch.nan)},
    "a bias of another length": {"bias": torch.ones(4)},
}


@pytest.mark.parametrize("kind", [".pt", ".safetensors", ".head.safetensors"])
@pytest.mark.parametrize("what", TENSORS)
def test_tensors_that_cannot_be(model: LoadedModel, tmp_path: Path, what: str, kind: str) -> None:
    path = write_raw(tmp_path / f"owls{kind}", model, **TENSORS[what])
    with pytest.raises(WeightsError) as error:
        load_head(path)
    assert str(path) in str(error.value)


FIELDS: dict[str, tuple[str, dict[str, Any]]] = {
    "no format": (".head.safetensors", {"format": None}),
    "another format": (".head.safetensors", {"format": "birder-head-2"}),
    "no classes": (".head.safetensors", {"classes": None}),
    "classes that repeat": (".head.safetensors", {"classes": '["a", "a", "b"]'}),
    "classes too few": (".head.safetensors", {"classes": '["a", "b"]'}),
    "classes that are numbers": (".head.safetensors", {"classes": "[1, 2, 3]"}),
    "classes in a table": (".head.safetensors", {"classes": '{"a": 1}'}),
    "a nameless class": (".head.safetensors", {"classes": '["", "b", "c"]'}),
    "classes too deep": (".head.safetensors", {"classes": "[" * 100_000}),
    "no adaptation": (".head.safetensors", {"adaptation": None}),
    "a tensor more": (".head.safetensors", {"more": torch.ones(1)}),
    "a tensor less": (".head.safetensors", {"bias": None}),
    "examples in floats": (".head.safetensors", {"examples": torch.ones(2, 32)}),
    "examples of another dimension": (".head.safetensors", {"examples": torch.ones(2, 31, dtype=torch.int8)}),
    "an adaptation too deep": (".safetensors", {"adaptation": '{"a":' * 100_000}),
    "an adaptation that is a list": (".safetensors", {"adaptation": "[1]"}),
    "an adaptation with NaN": (".safetensors", {"adaptation": '{"a": NaN}'}),
    "an adaptation of bytes": (".pt", {"adaptation": b"{}"}),
    "examples that are no base64": (".safetensors", {"examples": "*"}),
    "examples of no length": (".safetensors", {"examples": ""}),
    "examples of an odd length": (".safetensors", {"examples": "AAAA"}),
    "examples as a text": (".pt", {"examples": "*"}),
    "examples as a list": (".pt", {"examples": [1]}),
    "examples as numbers": (".pt", {"examples": torch.ones(2, 32)}),
    "examples in three dimensions": (".pt", {"examples": torch.ones(2, 32, 1, dtype=torch.int8)}),
    "examples without end": (".pt", {"examples": torch.zeros(1, 1, dtype=torch.int8).expand(10**9, 32)}),
}


@pytest.mark.parametrize("what", FIELDS)
def test_fields_that_cannot_be(model: LoadedModel, tmp_path: Path, what: str) -> None:
    kind, changes = FIELDS[what]
    path = write_raw(tmp_path / f"owls{kind}", model, **changes)
    with pytest.raises(WeightsError) as error:
        load_head(path)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 600


@pytest.fixture(scope="module")
def files(model: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of each kind of file, by its ending."""
    folder = tmp_path_factory.mktemp("files")
    paths = [
        save_head(folder / "owls.pt", head_of(model), model=model),
        save_head(folder / "owls.safetensors", head_of(model), model=model),
        save_head(folder / "owls.safetensors", head_of(model), model=None),
    ]
    return {path.name.removeprefix("owls"): path.read_bytes() for path in paths}


@pytest.mark.parametrize("ending", [".pt", ".safetensors", ".head.safetensors"])
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_with_any_bytes_changed_or_cut_is_read_or_refused(
    files: dict[str, bytes], tmp_path: Path, ending: str, data: st.DataObject
) -> None:
    """Where it is read, the parts fit one another, so that naming does not fail but with an error of ours."""
    changed = bytearray(files[ending])
    end = len(changed) - 1 if ending == ".pt" else struct.unpack("<Q", changed[:8])[0] + 40
    for _ in range(data.draw(st.integers(0, 3))):
        changed[data.draw(st.integers(0, end))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(changed))))
    path = tmp_path / f"{data.draw(st.uuids())}{ending}"  # a file of its own: the one before may still be mapped
    path.write_bytes(bytes(changed[:cut]))
    try:
        head = Classifier.load(path)
    except WeightsError as error:
        assert str(path) in str(error)
        return
    finally:
        path.unlink()
    x = np.ones((2, head.dimension), np.float32)
    with contextlib.suppress(BirderError):
        assert head.predict_proba(x).shape == (2, len(head.classes))
        if head.adaptation.get("unknown") and head.examples is not None:
            assert head.unknown_score(x).shape == (2,)
        if head.adaptation.get("conformal"):
            assert len(head.sets(x)) == 2
        if head.adaptation.get("ranks"):
            assert len(head.deepest(x, 0.95)) == 2


def test_files_that_are_not_there_or_are_others(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="There is no file"):
        load_head(tmp_path / "owls.head.safetensors")
    with pytest.raises(UnknownNameError):
        resolve(tmp_path / "owls.head.safetensors")
    (tmp_path / "text.head.safetensors").write_text("owl")
    with pytest.raises(WeightsError, match="not a safetensors file"):
        load_head(tmp_path / "text.head.safetensors")
    with pytest.raises(WeightsError, match="is not the file of a classifier"):
        resolve("efficientnet_lite0_in1k").load_head()


def test_checkpoints_without_an_adaptation_are_written_as_before(tmp_path: Path) -> None:
    checkpoint = Checkpoint({"a": torch.ones(2)}, make_signature((8, 8), 2), {"x": 0}, RGB)
    for ending in (".pt", ".safetensors"):
        assert read_checkpoint(write_checkpoint(tmp_path / f"x{ending}", checkpoint)).adaptation is None
    assert "adaptation" not in torch.load(tmp_path / "x.pt", weights_only=True)
