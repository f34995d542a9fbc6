"""A CLIP that open_clip_train trains, and Birder: run by the interpreter of .venv-peers, which has both.

    clip_training_theirs.py gradients|steps|features JOB.json        (gradients: alone, or under torchrun)

JOB.json: {"model": a folder in OpenCLIP's layout, "batch": images of each batch, "outputs": a folder}; for gradients
and features also "batches", a .npz with `images`, float32 (N, 3, H, W), and `tokens`, int64 (N, L); for steps "shards",
"updates", "accumulate", "lr", "warmup".
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import open_clip_train.main
import open_clip_train.train
import torch
from open_clip.loss import ClipLoss
from torch.nn.parallel import DistributedDataParallel

from birder.learning.clip import BETAS, EPS, ClipData, ClipRecipe, ClipTold, parameter_groups, train_clip
from birder.learning.clip_checkpoint import ClipFolder
from birder.learning.clip_data import ClipBatches, text_of_step
from birder.learning.clip_loss import Pair, add_gradients, clip_loss
from birder.learning.clip_model import Start, start_of
from birder.learning.parallel import Parallel
from birder.weights.loaded_clip import build_clip
from birder.weights.openclip import read_openclip
from birder.weights.openclip_convert import image_state_to_birder, text_state_to_birder

Arrays = dict[str, npt.NDArray[Any]]
Batch = tuple[torch.Tensor, torch.Tensor]


class Loader:
    """What open_clip_train wants of a loader: batches, and how many."""

    def __init__(self, batches: list[Batch]) -> None:
        self._batches = batches
        self.num_batches = len(batches)
        self.num_samples = sum(len(images) for images, _ in batches)

    def __iter__(self) -> Any:
        return iter(self._batches)


class Data:
    """Its DataInfo."""

    def __init__(self, batches: list[Batch]) -> None:
        self.dataloader = Loader(batches)

    def set_epoch(self, epoch: int) -> None:
        assert epoch == 0


class Recorder(torch.optim.SGD):
    """An optimizer that keeps the gradients of its first step, and changes nothing."""

    gradients: list[torch.Tensor]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.gradients = [each.grad.clone() for group in self.param_groups for each in group["params"]]


class Log:
    """What open_clip_train writes to TensorBoard: name -> values."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}

    def add_scalar(self, name: str, value: float, step: int) -> None:
        assert len(self.values.setdefault(name, [])) == step
        self.values[name].append(float(value))


def read_batches(job: dict[str, Any]) -> list[Batch]:
    given = np.load(job["batches"])
    images, tokens = torch.from_numpy(given["images"]), torch.from_numpy(given["tokens"])
    return list(zip(torch.split(images, job["batch"]), torch.split(tokens, job["batch"]), strict=True))


def their_gradients(job: dict[str, Any], mine: list[Batch], accumulate: int, rank: int, world: int) -> Arrays:
    """The loss and the gradients of one update of `train_one_epoch`."""
    model = open_clip.create_model(f"local-dir:{job['model']}", output_dict=True)
    names = [name for name, _ in model.named_parameters()]
    optimizer = Recorder(model.parameters(), lr=0.0)
    args = SimpleNamespace(
        device="cpu", precision="fp32", distill=False, accum_freq=accumulate, skip_scheduler=True, horovod=False,
        grad_clip_norm=None, rank=0, local_rank=0, world_size=world, batch_size=job["batch"], log_every_n_steps=1,
        log_local=False, wandb=False,
    )  # fmt: skip
    loss = ClipLoss(local_loss=True, gather_with_grad=True, cache_labels=True, rank=rank, world_size=world)
    log = Log()
    trained = DistributedDataParallel(model) if world > 1 else model
    open_clip_train.train.train_one_epoch(
        trained, {"train": Data(mine)}, loss, 0, optimizer, None, None, None, args, tb_writer=log
    )
    found = {name: gradient.numpy() for name, gradient in zip(names, optimizer.gradients, strict=True)}
    # Each process logs the loss of its own rows, as we do.
    return by_our_names(found) | {"loss": np.array(log.values["train/loss"][0])}


def their_feature_gradients(mine: list[Batch], job: dict[str, Any], rank: int, world: int) -> Arrays:
    """The loss, and its gradients for features and scale."""
    image, text, scale = leaves(job, mine)
    loss = ClipLoss(local_loss=True, gather_with_grad=True, cache_labels=True, rank=rank, world_size=world)
    value = loss(image, text, scale)
    value.backward()
    assert image.grad is not None and text.grad is not None and scale.grad is not None
    return {"loss": value.detach().numpy(), "image": image.grad.numpy(), "text": text.grad.numpy(),
            "scale": scale.grad.numpy()}  # fmt: skip


def leaves(job: dict[str, Any], mine: list[Batch]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features of a process's images and texts, and the scale, as what is differentiated for."""
    model = open_clip.create_model(f"local-dir:{job['model']}", output_dict=True)
    with torch.no_grad():
        found = model(torch.cat([images for images, _ in mine]), torch.cat([tokens for _, tokens in mine]))
    each = found["image_features"], found["text_features"], found["logit_scale"]
    image, text, scale = (one.detach().clone().requires_grad_(True) for one in each)
    return image, text, scale


def our_feature_gradients(mine: list[Batch], job: dict[str, Any], parallel: Parallel) -> Arrays:
    """The same of `clip_loss`."""
    image, text, scale = leaves(job, mine)
    value = clip_loss(image, text, scale, parallel)
    value.backward()  # type: ignore[no-untyped-call]
    assert image.grad is not None and text.grad is not None and scale.grad is not None
    return {"loss": value.detach().numpy(), "image": image.grad.numpy(), "text": text.grad.numpy(),
            "scale": scale.grad.numpy()}  # fmt: skip


def our_gradients(job: dict[str, Any], mine: list[Batch], parallel: Parallel) -> Arrays:
    """The loss and the gradients of one update of `add_gradients`, by Birder's names."""
    _, net = build_clip(read_openclip(job["model"]))
    net.requires_grad_(True).train()

    def encode(batch: Batch) -> list[Pair]:
        return [(net.encode_image(batch[0], normalize=True), net.encode_text(batch[1], normalize=True))]

    losses = add_gradients(mine, encode, net.log_logit_scale, parallel, lambda loss: loss.backward())  # type: ignore[no-untyped-call]
    found = {name: parameter.grad for name, parameter in net.named_parameters()}
    parallel.average([gradient for gradient in found.values() if gradient is not None])
    return by_our_names({name: gradient.numpy() for name, gradient in found.items() if gradient is not None}) | {
        "loss": losses[0].numpy()
    }


def by_our_names(arrays: Arrays) -> Arrays:
    """Arrays of a CLIP by its image encoder's and its text encoder's names; open_clip's are translated."""
    if "logit_scale" not in arrays:
        return {name.replace("log_logit_scale", "scale"): array for name, array in arrays.items()}
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    image, text = image_state_to_birder(state, "open_clip"), text_state_to_birder(state, "open_clip")
    both = {f"image.{name}": each for name, each in image.items()} | {f"text.{name}": e for name, e in text.items()}
    return {name: each.numpy() for name, each in both.items()} | {"scale": arrays["logit_scale"]}


def gradients(job: dict[str, Any]) -> None:
    """Both codes' losses and gradients of the same update, at once and accumulated over batches."""
    with Parallel.join("cpu") as parallel:
        rank, world = parallel.rank, parallel.processes
        mine = read_batches(job)[rank::world]
        whole = [(torch.cat([images for images, _ in mine]), torch.cat([tokens for _, tokens in mine]))]
        found = {
            "features theirs": their_feature_gradients(mine, job, rank, world),
            "features ours": our_feature_gradients(mine, job, parallel),
            "at once theirs": their_gradients(job, whole, 1, rank, world),
            "at once ours": our_gradients(job, whole, parallel),
            "accumulated theirs": their_gradients(job, mine, len(mine), rank, world),
            "accumulated ours": our_gradients(job, mine, parallel),
        }
        for name, arrays in found.items():
            np.savez(Path(job["outputs"]) / f"{name} {rank}.npz", allow_pickle=False, **arrays)


def their_steps(job: dict[str, Any], batches: list[Batch]) -> dict[str, Any]:
    """A training by its main program, which makes the model, the parameter groups and the schedule."""
    log = Log()
    seen: dict[str, Any] = {}
    train_one_epoch = open_clip_train.train.train_one_epoch

    def recorded(
        model: torch.nn.Module, data: Any, loss: Any, epoch: int, optimizer: Any, *rest: Any, **_: Any
    ) -> None:
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        decays = {
            names[id(parameter)]: np.full(tuple(parameter.shape), group["weight_decay"])
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        seen["decay"] = {name: float(each.max()) for name, each in by_our_names(decays).items()}
        seen["optimizer"] = {key: optimizer.defaults[key] for key in ("betas", "eps")}
        train_one_epoch(model, data, loss, epoch, optimizer, *rest, tb_writer=log)
        weights = {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}
        seen["weights"] = by_our_names(weights)

    open_clip_train.main.get_data = lambda *_, **__: {"train": Data(batches)}
    open_clip_train.main.train_one_epoch = recorded
    open_clip_train.main.main([
        "--model", f"local-dir:{job['model']}", "--dataset-type", "synthetic", "--device", "cpu", "--precision", "fp32",
        "--batch-size", str(job["batch"]), "--accum-freq", str(job["accumulate"]), "--epochs", "1",
        "--lr", str(job["lr"]), "--beta1", "0.9", "--beta2", "0.98", "--eps", "1e-6", "--wd", "0.2",
        "--warmup", str(job["warmup"]), "--local-loss", "--gather-with-grad", "--log-every-n-steps", "1",
        "--logs", job["outputs"], "--name", "theirs", "--save-frequency", "0", "--workers", "0",
    ])  # fmt: skip
    return seen | {name: log.values[f"train/{name}"] for name in ("loss", "lr", "scale")}


def our_steps(job: dict[str, Any], start: Start, data: ClipData, recipe: ClipRecipe, alone: Parallel) -> dict[str, Any]:
    """The same training by `train_clip`."""
    names = {id(parameter): name for name, parameter in start.clip.named_parameters()}
    groups = parameter_groups(start.clip)
    told: list[ClipTold] = []
    trained = train_clip(start, data, recipe, ClipFolder(Path(job["outputs"]) / "ours"), alone, tell=told.append)
    assert trained is not None
    return {
        "decay": {
            names[id(parameter)].replace("log_logit_scale", "scale"): group["weight_decay"]
            for group in groups
            for parameter in group["params"]
        },
        "optimizer": {"betas": BETAS, "eps": EPS},
        "loss": [each.loss for each in told],
        "lr": [each.lr for each in told],
        "scale": [each.scale for each in told],
        "weights": by_our_names({name: each.numpy() for name, each in trained.state.items()}),
    }


def drawn_batches(job: dict[str, Any], start: Start, data: ClipData, recipe: ClipRecipe, alone: Parallel) -> list[Any]:
    """The batches that `train_clip` draws, which follow from its arguments."""
    found = []
    with ClipBatches(
        data.shards, start.card, start.tokenizer, recipe.batch_size,
        lambda number: [text_of_step(recipe.texts, number // recipe.accumulate)],
        alone, workers=data.workers, seed=recipe.seed, resample=recipe.resample,
    ) as batches:  # fmt: skip
        for _, batch in zip(range(job["updates"] * recipe.accumulate), batches, strict=False):
            found.append(batch)
    return found


def steps(job: dict[str, Any]) -> None:
    """Both codes' losses, learning rates, scales and parameter groups over the same batches, and the final weights."""
    alone, folder = Parallel.join("cpu"), Path(job["outputs"])
    start = start_of(None, job["model"])
    recipe = ClipRecipe(
        batch_size=job["batch"], accumulate=job["accumulate"], lr=job["lr"], warmup=job["warmup"], epochs=1,
        precision="fp32",
    )  # fmt: skip
    data = ClipData(job["shards"], job["updates"] * job["batch"] * job["accumulate"])
    drawn = drawn_batches(job, start, data, recipe, alone)
    mean, std = (torch.tensor(start.rgb_stats[name]).view(3, 1, 1) for name in ("mean", "std"))
    theirs = their_steps(
        job, [((batch.pixels.permute(0, 3, 1, 2) / 255 - mean) / std, batch.tokens) for batch in drawn]
    )
    for name, found in (("theirs", theirs), ("ours", our_steps(job, start, data, recipe, alone))):
        np.savez(folder / f"{name}.npz", **found.pop("weights"))
        (folder / f"{name}.json").write_text(json.dumps(found))
    (folder / "drawn.json").write_text(json.dumps([[batch.keys, batch.texts] for batch in drawn]))


def features(job: dict[str, Any]) -> None:
    """Features by open_clip of a folder that Birder wrote."""
    model = open_clip.create_model(f"local-dir:{job['model']}", output_dict=True).eval()
    ((images, tokens),) = read_batches(job)
    with torch.no_grad():
        found = model(images, tokens)
    np.savez(Path(job["outputs"]) / "features.npz", **{name: each.numpy() for name, each in found.items()})


if __name__ == "__main__":
    torch.manual_seed(0)
    {"gradients": gradients, "steps": steps, "features": features}[sys.argv[1]](
        json.loads(Path(sys.argv[2]).read_text())
    )
