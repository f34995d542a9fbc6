"""From shards to a folder with a CLIP: by the command line and from Python."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

import birder
from birder.cli import app
from birder.errors import ConfigError, FileExistsError, UnknownNameError, WeightsError
from birder.learning.clip_checkpoint import ClipFolder
from birder.weights.openclip import read_openclip
from birder.weights.openclip_verify import openclip_image_features
from tests.learning.clip_runs import TINY, write_shards
from tests.learning.tiny import collection

FAST: dict[str, Any] = {"init": TINY, "batch_size": 8, "accumulate": 1, "warmup": 2, "device": "cpu", "progress": None}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(Path(write_shards(tmp_path_factory.mktemp("shards"), 16, 2, damaged=True)[0]).parent / "*.tar")


@pytest.mark.slow
def test_command_writes_a_model_that_everything_loads(tmp_path: Path, shards: str) -> None:
    labelled = collection(tmp_path, each=3)
    asked = ["train-clip", "--shards", shards, "--to", str(tmp_path / "run"), "--init", str(TINY), "--val", shards]
    asked += ["--batch-size", "8", "--accumulate", "2", "--epochs", "2", "--warmup", "1", "--texts", "sci,taxonTag"]
    asked += ["--judge", str(labelled.path), "--device", "cpu", "--precision", "auto", "--seed", "3", "--tensorboard"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 1, done.output  # two samples are damaged
    for said in (
        "The image encoder is a vit_s16_pn; the training begins with the weights of",
        "16 samples in 2 shards, 2 epochs, updates of 16 images on 1 device.",
        "samples have no text taxonTag: taxon was taken.",
        "On 14 validation samples: loss",
        "Named right by texts in c.birder:",
        "truncated image data: ",
        "birder predict IMAGE --model",
    ):
        assert said in done.output, done.output
    record = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "metrics.json", "open_clip_config.json", "open_clip_model.safetensors", "report.html", "vit_s16_pn_clip.pt",
        "tensorboard",
    }  # fmt: skip
    assert record["updates"] == 2 and record["images_per_update"] == 16 and record["recipe"]["precision"] == "fp32"
    assert [each["epoch"] for each in record["history"]] == [1, 2]
    zero_shot = record["history"][1]["zero_shot"]
    assert (zero_shot["images_of"], zero_shot["classes"], zero_shot["n"]) == ("c.birder", 3, 9)
    assert zero_shot["top1"] * 9 == pytest.approx(round(zero_shot["top1"] * 9))
    assert record["recipe"]["texts"] == ["sci", "taxonTag"] and record["recipe"]["seed"] == 3
    assert set(record["data"]["failed"].values()) == {"truncated image data"}  # those that were drawn
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "Images that find their text" in page and "truncated image data" in page and "taxonTag" in page

    curves = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [each.step for each in curves.Scalars("train/loss")] == [1, 2]
    losses = [each.value for each in curves.Scalars("val/loss")]
    assert losses == pytest.approx([each["val"]["loss"] for each in record["history"]])

    folder = tmp_path / "run"
    clip = birder.load_clip(folder)
    before = birder.load_clip(TINY)
    assert clip.context_length == before.context_length and clip.transform.size == before.transform.size
    assert not torch.equal(clip.net.text.projection.weight, before.net.text.projection.weight)
    x = torch.randn(2, 3, 224, 224)
    theirs = openclip_image_features(read_openclip(folder).state, x, num_heads=3, quick_gelu=False)
    torch.testing.assert_close(clip.encode_image(x), theirs, rtol=1e-4, atol=1e-5)
    net, info = birder.load_model("vit_s16_pn", folder / "vit_s16_pn_clip.pt", inference=True)
    torch.testing.assert_close(net(x), theirs, rtol=1e-4, atol=1e-5)
    assert info.rgb_stats == {"mean": list(clip.transform.mean), "std": list(clip.transform.std)}
    config = read_openclip(folder).config
    assert config is not None and config["model_cfg"]["vision_cfg"].pop("mlp_ratio") == 4.0
    assert config == read_openclip(TINY).config  # of a CLIP that was trained on, the rest stays

    again = CliRunner().invoke(app, asked)
    assert "is not empty: name another folder, or replace it with --force." in str(again.exception)
    resumed = CliRunner().invoke(app, [*asked, "--resume"])
    assert "There is no training to go on with" in str(resumed.exception)


@pytest.mark.slow
def test_stopped_training_goes_on_with_the_same_options_alone(tmp_path: Path, shards: str) -> None:
    stop = threading.Event()
    told: list[int] = []

    def tell(state: Any) -> None:
        told.append(state.update)
        if state.update == 3:
            stop.set()

    asked = FAST | {"epochs": 3, "workers": 2, "tell": tell}
    stopped = birder.train_clip(shards, tmp_path / "run", stop=stop, **asked)
    assert stopped.stopped and stopped.image_encoder is None and told == [1, 2, 3]
    assert not (tmp_path / "run" / "open_clip_model.safetensors").exists()
    with pytest.raises(FileExistsError, match="go on with --resume, or begin anew with --force"):
        birder.train_clip(shards, tmp_path / "run", **asked)
    with pytest.raises(ConfigError, match=r"begun with another lr \(then 0.0001\), seed \(then 0\)"):
        birder.train_clip(shards, tmp_path / "run", resume=True, lr=1e-3, seed=1, **asked)
    with pytest.raises(ConfigError, match="not both"):
        birder.train_clip(shards, tmp_path / "run", resume=True, force=True, **asked)
    newest = ClipFolder(tmp_path / "run").checkpoints()[-1]
    whole = newest.read_bytes()
    newest.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="remove it, and --resume goes on from the one before"):
        birder.train_clip(shards, tmp_path / "run", resume=True, **asked)
    newest.unlink()
    went_on = birder.train_clip(shards, tmp_path / "run", resume=True, **(asked | {"workers": None}))
    assert told == [1, 2, 3, 3, 4, 5, 6]  # from the end of the first epoch
    alone = birder.train_clip(shards, tmp_path / "alone", **(asked | {"tell": None}))
    first, second = (read_openclip(each.path).state for each in (went_on, alone))
    assert all(torch.equal(first[name], second[name]) for name in second)
    assert went_on.failures == alone.failures and len(alone.failures) == 2
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
def test_new_text_encoder_for_an_image_encoder_that_is_locked(tmp_path: Path, shards: str) -> None:
    made = birder.train_clip(
        shards, tmp_path / "run", recipe="small", **(FAST | {"init": "efficientnet_lite0_in1k", "epochs": 1})
    )
    assert made.record["model"]["text"]["width"] == 128 and made.record["recipe"]["lock_image"]
    clip = birder.load_clip(tmp_path / "run")
    published, _ = birder.load_pretrained_model("efficientnet_lite0_in1k", inference=True)
    x = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(clip.visual.embedding(x), published.embedding(x))
    assert clip.encode_image(x).shape == clip.encode_text(["owl"]).shape == (1, 128)


def test_what_cannot_be_trained_is_refused_before_it_begins(tmp_path: Path, shards: str) -> None:
    def refused(error: type[Exception], match: str, **options: Any) -> None:
        with pytest.raises(error, match=match):
            birder.train_clip(shards, tmp_path / "run", **(FAST | options))
        assert not (tmp_path / "run").exists()

    refused(UnknownNameError, "bioclip-v1", recipe="bioclip-v9")
    refused(ConfigError, "at least 1", epochs=0)
    refused(ConfigError, "compares at least two samples", batch_size=1)
    refused(ConfigError, "has the image encoder vit_s16_pn, not vit_b16_pn", model="vit_b16_pn")
    refused(ConfigError, "needs weights: name them with --init", init=None, model="vit_s16_pn", lock_image=True)
    lone = write_shards(tmp_path / "lone", 4, 1)
    (tmp_path / "lone" / "sizes.json").unlink()
    with pytest.raises(ConfigError, match="say it with --samples"):
        birder.train_clip(lone, tmp_path / "run", **FAST)
