"""`birder convert`: between OpenCLIP's layout and the Birder format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birder.cli.output import note, say

if TYPE_CHECKING:
    from birder.weights.openclip import State


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A hub repository or a folder in OpenCLIP's layout, or a bare checkpoint (with --network). "
            "With --reverse: a checkpoint in the Birder format, or registered weights.",
        ),
    ],
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="A .safetensors or .pt file; with --reverse, a folder.")],
    network: Annotated[
        str | None, typer.Option("--network", metavar="NAME", help="The network, where SOURCE does not tell it.")
    ] = None,
    verify: Annotated[
        Path | None,
        typer.Option("--verify", metavar="PHOTO", help="Embed this photograph through both; print the difference."),
    ] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Write OpenCLIP's layout.")] = False,
    text_from: Annotated[
        str | None,
        typer.Option(
            "--text-from", metavar="SOURCE", help="With --reverse: whose text encoder goes with the image encoder."
        ),
    ] = None,
) -> None:
    """Convert the image encoder of an OpenCLIP model into the Birder format, or back, without losing a bit.

    Examples: birder convert imageomics/bioclip vit_b16_pn_mine.safetensors --verify photo.jpg;
    birder convert vit_b16_pn_mine.safetensors folder --reverse --text-from imageomics/bioclip
    """
    from birder.errors import ConfigError

    if reverse:
        if text_from is None:
            raise ConfigError(
                "A Birder checkpoint holds the image encoder only, an OpenCLIP model also a text encoder: name where "
                "that comes from, as in --text-from imageomics/bioclip."
            )
        _to_openclip(source, dest, network, text_from, verify)
    elif text_from is not None:
        raise ConfigError("--text-from goes with --reverse.")
    else:
        _to_birder(source, dest, network, verify)


def _to_birder(source: str, dest: Path, network: str | None, verify: Path | None) -> None:
    from birder.errors import WeightsError
    from birder.weights.checkpoint import write_checkpoint
    from birder.weights.openclip import read_openclip
    from birder.weights.openclip_convert import to_birder
    from birder.weights.openclip_files import OPENAI_RGB
    from birder.weights.resolve import network_of_file

    if dest.suffix not in (".pt", ".safetensors"):
        raise WeightsError(f"{dest}: a checkpoint ends in .pt or .safetensors.")
    openclip = read_openclip(source)
    name, checkpoint = to_birder(openclip, network)
    write_checkpoint(dest, checkpoint)
    say(f"{dest}: {name}, {checkpoint.signature['outputs'][0]['data_shape'][1]} outputs")
    if openclip.config is None:
        note(
            f"A bare checkpoint does not say how its images were normalised: mean {OPENAI_RGB['mean']}, "
            f"std {OPENAI_RGB['std']} (OpenAI's) were written."
        )
    try:
        found = network_of_file(dest)
    except WeightsError:
        found = ""
    if found != name:
        note(f"Birder tells a file's network by its name: call it {name}_{dest.name} to use it with --model.")
    if verify is not None:
        _verify(name, dest, openclip.state, openclip.weights_path, verify)


def _to_openclip(source: str, dest: Path, network: str | None, text_from: str, verify: Path | None) -> None:
    from birder.errors import WeightsError
    from birder.registry import registered_name, weights_spec
    from birder.weights.checkpoint import read_checkpoint
    from birder.weights.hub import fetch
    from birder.weights.openclip import read_openclip, read_state
    from birder.weights.openclip_convert import to_openclip, write_openclip
    from birder.weights.openclip_files import SAFETENSORS_FILE
    from birder.weights.resolve import network_of_file

    if dest.is_file() or dest.suffix in (".pt", ".safetensors", ".bin"):
        raise WeightsError(
            f"{dest}: OpenCLIP's layout is a folder with a configuration and the weights; name a folder."
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
    say(f"{dest}: an OpenCLIP model of {len(state)} tensors")
    if verify is not None:
        _verify(network, path, read_state(dest / SAFETENSORS_FILE), dest / SAFETENSORS_FILE, verify)


def _verify(network: str, checkpoint: Path, state: State, weights: Path, photo: Path) -> None:
    """Embed a photograph through the Birder checkpoint and by OpenCLIP's arithmetic on its own tensors."""
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
    x = transform(open_image(photo)).unsqueeze(0)
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
        f"{photo}: largest difference {largest:.2e}, of features up to {scale:.3g}, between {checkpoint} in Birder and "
        f"{weights} computed by OpenCLIP's arithmetic"
    )
    if not largest <= 1e-4 * scale:
        raise WeightsError(f"{checkpoint} does not compute what {weights} does: do not use it, and report this.")
