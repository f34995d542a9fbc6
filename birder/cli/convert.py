"""`birder convert`: between OpenCLIP's layout and the Birder format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birder.cli import options
from birder.cli.output import note, say

if TYPE_CHECKING:
    from birder.weights.openclip import State


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A hub repository or folder in OpenCLIP's layout, or a bare checkpoint (with --network). "
            "With --reverse: a checkpoint in the Birder format, or a registered name.",
        ),
    ],
    to: Annotated[Path, options.to_option(".safetensors or .pt; with --reverse, a folder")],
    network: Annotated[
        str | None, typer.Option("--network", metavar="NAME", help="The network, if SOURCE does not name it.")
    ] = None,
    verify: Annotated[
        Path | None,
        typer.Option("--verify", metavar="IMAGE", help="Embed this image with both and print the difference."),
    ] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Write OpenCLIP's layout.")] = False,
    text_from: Annotated[
        str | None,
        typer.Option(
            "--text-from",
            metavar="SOURCE",
            help="With --reverse: the model whose text encoder joins the image encoder.",
        ),
    ] = None,
    force: options.Force = False,
) -> None:
    """Convert the image encoder of an OpenCLIP model into the Birder format, or back, bit by bit the same.

    For example:

    birder convert imageomics/bioclip --to vit_b16_pn_new.safetensors --verify owl.jpg

    birder convert vit_b16_pn_mine.safetensors --to clip/ --reverse --text-from imageomics/bioclip
    """
    if reverse and text_from is None:
        options.wrong_use(
            "A Birder checkpoint has only an image encoder, an OpenCLIP model also a text encoder: say where "
            "that comes from, as in --text-from imageomics/bioclip."
        )
    if text_from is not None and not reverse:
        options.wrong_use("--text-from goes with --reverse.")
    options.check_to(to, force)
    if text_from is not None:
        _to_openclip(source, to, network, text_from, verify)
    else:
        _to_birder(source, to, network, verify)


def _to_birder(source: str, dest: Path, network: str | None, verify: Path | None) -> None:
    from birder.errors import ConfigError, WeightsError
    from birder.weights.checkpoint import write_checkpoint
    from birder.weights.openclip import read_openclip
    from birder.weights.openclip_convert import to_birder
    from birder.weights.openclip_files import OPENAI_RGB
    from birder.weights.resolve import network_of_file

    if dest.suffix not in (".pt", ".safetensors"):
        raise ConfigError(f"{dest} is not the name of a checkpoint: end it in .pt or .safetensors.")
    openclip = read_openclip(source)
    name, checkpoint = to_birder(openclip, network)
    write_checkpoint(dest, checkpoint)
    say(f"{dest}: {name}, {checkpoint.signature['outputs'][0]['data_shape'][1]} outputs")
    if openclip.config is None:
        note(
            f"A bare checkpoint does not state its normalisation: mean {OPENAI_RGB['mean']}, "
            f"std {OPENAI_RGB['std']} (OpenAI's) were written."
        )
    try:
        found = network_of_file(dest)
    except WeightsError:
        found = ""
    if found != name:
        note(f"Birder recognises the network by the file name: call it {name}_{dest.name} to use it with --model.")
    if verify is not None:
        _verify(name, dest, openclip.state, openclip.weights_path, verify)


def _to_openclip(source: str, dest: Path, network: str | None, text_from: str, verify: Path | None) -> None:
    from birder.errors import ConfigError
    from birder.registry import registered_name, weights_spec
    from birder.weights.checkpoint import read_checkpoint
    from birder.weights.hub import fetch
    from birder.weights.openclip import read_openclip, read_state
    from birder.weights.openclip_convert import to_openclip, write_openclip
    from birder.weights.openclip_files import SAFETENSORS_FILE
    from birder.weights.resolve import network_of_file

    if dest.is_file() or dest.suffix in (".pt", ".safetensors", ".bin"):
        raise ConfigError(
            f"{dest} is not a folder: OpenCLIP's layout is a folder with a configuration and the weights."
        )
    if registered_name(source) is not None:
        spec = weights_spec(source)
        path, network = fetch(spec), spec.network
    else:
        path = Path(source)
    checkpoint = read_checkpoint(path)
    network = network or network_of_file(path)
    config, state = to_openclip(network, checkpoint, read_openclip(text_from))
    write_openclip(dest, config, state)
    say(f"{dest}: an OpenCLIP model with {len(state)} tensors")
    if verify is not None:
        _verify(network, path, read_state(dest / SAFETENSORS_FILE), dest / SAFETENSORS_FILE, verify)


def _verify(network: str, checkpoint: Path, state: State, weights: Path, image: Path) -> None:
    """Embed an image with the Birder checkpoint and by OpenCLIP's arithmetic on its own tensors."""
    import torch

    from birder.errors import WeightsError
    from birder.images.open import open_image
    from birder.images.transform import classification_transform
    from birder.registry import network_spec
    from birder.weights.checkpoint import get_size_from_signature
    from birder.weights.load import load_model
    from birder.weights.openclip_verify import openclip_image_features

    net, info = load_model(network, checkpoint, inference=True, dtype=torch.float32)
    transform = classification_transform(get_size_from_signature(info.signature), info.rgb_stats)
    x = transform(open_image(image)).unsqueeze(0)
    config = network_spec(network).config | (info.custom_config or {})
    with torch.inference_mode():
        ours = net(x)
        theirs = openclip_image_features(
            state,
            x,
            num_heads=config["num_heads"],
            quick_gelu=config.get("act_layer_type") == "quick_gelu",
        )
    largest, scale = float((ours - theirs).abs().max()), float(theirs.abs().max())
    say(
        f"{image}: largest difference {largest:.2e}, of features up to {scale:.3g}, between {checkpoint} in Birder and "
        f"{weights} computed by OpenCLIP's arithmetic"
    )
    if not largest <= 1e-4 * scale:
        raise WeightsError(
            f"{checkpoint} does not compute what {weights} does: do not use it, and report this as a bug."
        )
