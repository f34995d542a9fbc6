"""Exported files in runtimes that are not ours, against the networks that they were made of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import openvino
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer
from torch import nn

import birder
from birder.common import fs_ops
from birder.errors import ConfigError, FileExistsError, WeightsError
from birder.images.transform import ClassificationTransform
from birder.inference.detector import Detector, Letterbox, found
from birder.inference.export import check, onnx_file, openvino_file, pt2_file
from birder.inference.export.graph import IMAGES, Graph
from birder.net.tokenizer import ClipTokenizer
from birder.weights.detector import resolve_detector
from birder.weights.exported import load_pt2
from birder.weights.head import save_head
from birder.weights.load import LoadedModel
from birder.weights.resolve import resolve
from tests.classifiers import CLASSES, RGB, head_of, network_file

ROOT = Path(__file__).parents[2]
CLIP = ROOT / "tests" / "data" / "openclip"
Arrays = dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return network_file(tmp_path_factory.mktemp("network") / "vit_b16_pn_tiny.pt")


@pytest.fixture(scope="module")
def adapted(network: Path) -> Path:
    """A checkpoint as `birder adapt` writes it."""
    model = resolve(network).load_image_encoder()
    return save_head(network.with_name("vit_b16_pn_owls.safetensors"), head_of(model), model=model)


def onnx_outputs(path: Path, values: npt.NDArray[Any]) -> Arrays:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(None, {session.get_inputs()[0].name: values}), strict=True))


def openvino_outputs(path: Path, values: npt.NDArray[Any]) -> Arrays:
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return {port.get_any_name(): np.array(value) for port, value in compiled(values).items()}


def pt2_outputs(path: Path, values: npt.NDArray[Any]) -> Arrays:
    outputs = torch.export.load(path).module()(torch.from_numpy(values))
    return {name: value.detach().numpy() for name, value in outputs.items()}


RUNTIMES = {".onnx": onnx_outputs, ".xml": openvino_outputs, ".pt2": pt2_outputs}


def metadata(path: Path) -> dict[str, str]:
    if path.suffix == ".onnx":
        return {each.key: each.value for each in onnx.load(path).metadata_props}
    if path.suffix == ".xml":
        section = dict(openvino.Core().read_model(path).get_rt_info().items())["birder"]
        return {key: str(getattr(value, "value", value)) for key, value in section.items()}
    texts = dict.fromkeys(("task", "class_to_idx", "signature", "rgb_stats", "weights_sha256", "birder_version"), "")
    torch.export.load(path, extra_files=texts)
    return texts


def of_network(model: LoadedModel, images: torch.Tensor) -> Arrays:
    with torch.inference_mode():
        embedding = model.net.embedding(images)
        return {"embedding": embedding.numpy(), "logits": model.net.classify(embedding).numpy()}


def relative(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.slow
@pytest.mark.parametrize("ending", RUNTIMES)
def test_a_classifier_gives_the_network_s_outputs_for_batches_of_any_size(
    ending: str, adapted: Path, tmp_path: Path
) -> None:
    done = birder.export_model(adapted, tmp_path / f"owls{ending}", output="both")
    model = resolve(adapted).load_image_encoder()
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for batch in (1, 3):
        expected = of_network(model, images[:batch])
        outputs = RUNTIMES[ending](done.path, images[:batch].numpy())
        assert list(outputs) == list(done.outputs) == ["embedding", "logits"]
        for name, values in expected.items():
            assert relative(outputs[name], values) < 1e-5
    facts = metadata(done.path)
    assert json.loads(facts["class_to_idx"]) == {name: index for index, name in enumerate(CLASSES)}
    assert json.loads(facts["signature"])["inputs"] == [{"data_shape": [0, 3, 32, 32]}]
    assert json.loads(facts["rgb_stats"]) == RGB
    assert facts["weights_sha256"] == model.sha256
    labels = (tmp_path / "labels.txt").read_text("utf-8").split("\n")
    assert labels == [" ".join(name.splitlines()) if "\n" in name else name for name in CLASSES] + [""]
    assert done.agreement.inputs == 16
    assert sorted(tmp_path.iterdir()) == sorted(done.files)
    for file in done.files:
        content = file.read_bytes()
        assert str(ROOT).encode() not in content and str(tmp_path).encode() not in content, file.name
    if ending != ".pt2":  # whose archive has an identifier of its own
        again = birder.export_model(adapted, tmp_path / "again" / f"owls{ending}", output="both")
        assert [file.read_bytes() for file in again.files] == [file.read_bytes() for file in done.files]


@pytest.mark.slow
def test_the_model_card_tells_data_figures_limits_and_origin(adapted: Path, tmp_path: Path) -> None:
    birder.export_model(adapted, tmp_path / "owls.pt2")
    card = (tmp_path / "README.md").read_text("utf-8")
    assert "| accuracy | 0.800 | 0.700 to 0.900 | 100 |" in card
    assert "Column `species` of a Birder collection" in card
    assert 'can also say "unknown"' in card
    assert "torch 2" in card and "compared on 16 images" in card
    assert resolve(adapted).fetch().sha256 in card
    program = card.split("```python\n")[1].split("```")[0]
    Image.effect_noise((50, 40), 60).convert("RGB").save(tmp_path / "owl.jpg")
    import contextlib
    import io

    said = io.StringIO()
    with contextlib.chdir(tmp_path), contextlib.redirect_stdout(said):
        exec(program, {})  # what the card says is what runs
    assert said.getvalue().strip() in (tmp_path / "labels.txt").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("ending", RUNTIMES)
def test_half_precision_halves_the_file_and_keeps_the_answers(ending: str, adapted: Path, tmp_path: Path) -> None:
    half = birder.export_model(adapted, tmp_path / f"half{ending}", precision="fp16", output="both")
    assert 0.999 < half.agreement.lowest_cosines["logits"] <= 1 + 1e-9
    assert half.agreement.same_class is not None and half.agreement.same_class >= 15
    stored = half.path.with_suffix(".bin") if ending == ".xml" else half.path
    parameters = sum(each.numel() for each in resolve(adapted).load_image_encoder().net.parameters())
    assert stored.stat().st_size < 4 * parameters + (0 if ending == ".xml" else 120_000)
    images = np.zeros((1, 3, 32, 32), np.float32)
    expected = of_network(resolve(adapted).load_image_encoder(), torch.from_numpy(images))
    assert 0 < relative(RUNTIMES[ending](half.path, images)["logits"], expected["logits"]) < 1e-2


@pytest.mark.slow
def test_other_sizes_and_the_maps_of_a_detector(network: Path, tmp_path: Path) -> None:
    done = birder.export_model(network, tmp_path / "maps.onnx", output="detection", size=64)
    net, _ = birder.load_model("vit_b16_pn", network, inference=True, new_size=(64, 64))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = net.detection_features(images)
    outputs = onnx_outputs(done.path, images.numpy())
    assert list(outputs) == list(done.outputs) == ["neck"]
    assert relative(outputs["neck"], expected["neck"].numpy()) < 1e-5
    assert json.loads(metadata(done.path)["signature"])["inputs"] == [{"data_shape": [0, 3, 64, 64]}]


@pytest.fixture(scope="module")
def odd_images() -> list[Image.Image]:
    """Images larger, smaller and far from square, and one of plain noise: the hardest to resize alike."""
    random = np.random.default_rng(0)
    shapes = [(301, 451), (20, 31), (32, 32), (200, 24), (7, 90)]
    images = [Image.fromarray(random.integers(0, 256, (*shape, 3), np.uint8)) for shape in shapes]
    return [*images, Image.open(ROOT / "tests" / "data" / "chelsea.png").convert("RGB"), *check.check_images()[:4]]


@pytest.mark.slow
@pytest.mark.parametrize("ending", RUNTIMES)
def test_the_transform_in_the_graph_is_pillow_s(ending: str, odd_images: Sequence[Image.Image], tmp_path: Path) -> None:
    transform = ClassificationTransform((32, 48), (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    graph = Graph(_Doubled().eval(), IMAGES, ("pixels",), torch.zeros(2, 3, 32, 48), False)
    path = tmp_path / f"transform{ending}"
    module: ModuleType = {".onnx": onnx_file, ".xml": openvino_file, ".pt2": pt2_file}[ending]
    module.write(graph, path, transform=transform, calibration=None, facts={})
    run = module.runner(path, ("pixels",))
    level = 1 / 255 / 0.2  # what one level of 255 becomes
    off = []
    for place, image in enumerate(odd_images):
        pixels = run(np.asarray(image)[None])["pixels"][0] / 2
        difference = np.abs(pixels - transform(image).numpy())
        assert difference.max() <= 1.01 * level
        off.append(float(difference.mean()))
        assert (difference > 0.1 * level).mean() < (2e-2 if place < _NOISE else 1e-3)  # values that lie between two
    assert max(off) < 1e-3 / 4


_NOISE = 5
"""So many of the odd images are noise."""


class _Doubled(nn.Module):
    """Something that an exporter cannot leave out."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images * 2


@pytest.mark.slow
@pytest.mark.parametrize("ending", RUNTIMES)
def test_images_of_any_size_go_in_with_the_transform(ending: str, adapted: Path, tmp_path: Path) -> None:
    done = birder.export_model(adapted, tmp_path / f"owls{ending}", output="both", with_transform=True)
    model = resolve(adapted).load_image_encoder()
    for image in check.check_images()[4:7]:
        expected = of_network(model, model.transform()(image)[None])
        outputs = RUNTIMES[ending](done.path, np.asarray(image)[None])
        assert relative(outputs["logits"], expected["logits"]) < 1e-3
    assert max(done.agreement.differences.values()) < 1e-3


@pytest.mark.slow
def test_a_file_that_does_not_compute_what_its_network_does_is_not_kept(
    adapted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = onnx_file.finish

    def spoilt(model: onnx.ModelProto, *rest: Any) -> None:
        """An exporter with a mistake: one weight matrix a little too large."""
        matrix = max(model.graph.initializer, key=lambda each: len(each.raw_data))
        matrix.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(matrix) * 1.01, matrix.name))
        whole(model, *rest)

    monkeypatch.setattr(onnx_file, "finish", spoilt)
    (tmp_path / "owls.onnx").write_bytes(b"the user's own")
    with pytest.raises(WeightsError, match=r"owls\.onnx was not kept: onnxruntime .* computes logits with a diff.*e-0"):
        birder.export_model(adapted, tmp_path / "owls.onnx", force=True)
    assert [file.name for file in tmp_path.iterdir()] == ["owls.onnx"]
    assert (tmp_path / "owls.onnx").read_bytes() == b"the user's own"


@pytest.mark.slow
def test_nothing_is_replaced_unasked(adapted: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(FileExistsError, match="README.md already exists"):
        birder.export_model(adapted, tmp_path / "owls.pt2")
    assert [file.name for file in tmp_path.iterdir()] == ["README.md"]
    birder.export_model(adapted, tmp_path / "owls.pt2", force=True)
    assert "# vit_b16_pn_owls" in (tmp_path / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dest": "a.tflite"}, "no known extension: use .onnx, .xml, .pt2"),
        ({"precision": "int8"}, "calibrate"),
        ({"calibrate": ["owl.jpg"]}, "calibrate is for int8"),
        ({"precision": "int8", "calibrate": ["owl.jpg"], "dest": "a.pt2"}, "int8 is for .onnx and .xml"),
        ({"encoder": "text", "with_transform": True}, "A text encoder has one output"),
        ({"precision": "fp8"}, "Unknown precision 'fp8'"),
        ({"size": 33}, "not divisible by the patch size"),
        ({"model": "nanodet_g_coco", "dest": "a.pt2"}, r"exported as \.onnx or \.xml"),
        ({"model": "nanodet_g_coco", "with_transform": True}, "exported as it is"),
    ],
)
def test_what_does_not_go_together_is_said(
    options: dict[str, Any], message: str, network: Path, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"model": network, "dest": "a.onnx"} | options
    with pytest.raises(ConfigError, match=message):
        birder.export_model(asked.pop("model"), tmp_path / asked.pop("dest"), **asked)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_clip_model_s_halves_meet_in_one_space(tmp_path: Path) -> None:
    clip = birder.load_clip(CLIP)
    image = birder.export_model(CLIP, tmp_path / "image" / "clip.onnx", output="logits")
    text = birder.export_model(CLIP, tmp_path / "text" / "clip.onnx", encoder="text")
    assert image.outputs == text.outputs == ("features",)
    tokenizer = Tokenizer.from_file(str(tmp_path / "text" / "tokenizer.json"))
    words = ["Strix aluco", "a photo of a red fox, in the snow"]
    tokens = np.array([each.ids for each in tokenizer.encode_batch(words)])
    assert tokens.tolist() == clip.tokenizer(words).tolist()
    with torch.inference_mode():
        expected = clip.encode_text(words).numpy()
    assert relative(onnx_outputs(text.path, tokens)["features"], expected) < 1e-5
    pixels = torch.randn(2, 3, *clip.visual.size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = clip.encode_image(pixels).numpy()
    assert relative(onnx_outputs(image.path, pixels.numpy())["features"], expected) < 1e-5
    assert metadata(text.path)["logit_scale"] == repr(float(clip.logit_scale))


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    from birder.inference.export.tokenizer import write_tokenizer

    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    write_tokenizer(path, 77, check.TEXTS)
    return Tokenizer.from_file(str(path))


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(text=st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs")), max_size=60))
def test_the_tokenizer_file_gives_birder_s_tokens(tokenizer_file: Tokenizer, text: str) -> None:
    from birder.net.tokenizer import clean

    mended = clean(text)  # what is left to the reader of the file is ftfy and HTML
    assume(clean(mended) == mended)
    assert tokenizer_file.encode(mended).ids == ClipTokenizer()(mended)[0].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".onnx", ".xml"])
def test_a_detector_finds_the_boxes_of_birder_detect(ending: str, tmp_path: Path) -> None:
    done = birder.export_model("nanodet_g_coco", tmp_path / f"nanodet{ending}")
    assert done.outputs == ("boxes", "scores", "classes")
    detector = Detector(resolve_detector().path)
    with Image.open(next((ROOT / "examples" / "camera-trap").rglob("*.jpg"))) as image:
        pixels, _ = detector.prepare(image)
    expected = found(detector.run([pixels])[0], detector.form, Letterbox(0, 0, 416, 416), 0.06)
    outputs = RUNTIMES[ending](done.path, (pixels.astype(np.float32) / 255).transpose(2, 0, 1)[None].copy())
    clear = outputs["scores"] > 0.06
    assert np.allclose(outputs["scores"][clear], [each.confidence for each in expected], atol=1e-4)
    corners = [[each.x, each.y, each.x + each.width, each.y + each.height] for each in expected]
    assert np.allclose(outputs["boxes"][clear] / 416, corners, atol=1e-4)
    labels = (tmp_path / "labels.txt").read_text("utf-8").splitlines()
    named = [labels[each] for each in outputs["classes"][clear]]
    assert named == [each.hint or each.category for each in expected]
    assert (np.diff(outputs["scores"]) <= 0).all()


@pytest.mark.slow
def test_an_exported_program_loads_as_the_published_package_loads_it(adapted: Path, tmp_path: Path) -> None:
    done = birder.export_model(adapted, tmp_path / "vit_b16_pn_owls.pt2", output="logits")
    net, info = fs_ops.load_model("cpu", "vit_b16_pn", path=done.path, inference=True, pt2=True)
    assert list(info.class_to_idx) == list(CLASSES)
    out, _ = birder.infer_image(net, Image.new("RGB", (40, 40), "red"), birder.classification_transform(net.size, RGB))
    model = resolve(adapted).load_image_encoder()
    expected, _ = birder.infer_image(model.net, Image.new("RGB", (40, 40), "red"), model.transform())
    assert np.allclose(out, expected, atol=1e-6)
    content = done.path.read_bytes()
    done.path.write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match="damaged or not a PT2 file"):
        load_pt2(done.path)
    torch.export.save(torch.export.export(nn.ReLU(), (torch.zeros(2),)), tmp_path / "other.pt2")
    with pytest.raises(WeightsError, match="does not say its classes"):
        load_pt2(tmp_path / "other.pt2")
    with pytest.raises(ConfigError, match="one size"):
        fs_ops.load_model("cpu", "vit_b16_pn", path=done.path, inference=True, pt2=True, new_size=(64, 64))
