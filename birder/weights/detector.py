"""What a user's word for a detector means: one that is installed with Birder, an ONNX file, or a checkpoint.

A checkpoint of a detector is in the Birder format: `task` "object_detection", the state of `birder.net.fcos.FCOS`,
`config` and `backbone_config`, and `class_to_idx` that counts from 1. Beside what the published package writes, ours
name the `detector` and the `network` that is its backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birder.errors import ConfigError, UnknownNameError, WeightsError, unknown_name
from birder.registry import DETECTION_TASK, create_network, detectors, list_networks, network_spec
from birder.weights.hub import check_is_file, sha256_of

if TYPE_CHECKING:
    from birder.net.fcos import FCOS
    from birder.weights.checkpoint import RgbStats
    from birder.weights.resolve import Weights

DATA = Path(__file__).parents[1] / "data"
CHECKPOINTS = (".pt", ".safetensors")
ENDINGS = (".onnx", *CHECKPOINTS)
_KIND = "fcos"


@dataclass(frozen=True)
class DetectorFile:
    """A detector's name, its ONNX file or checkpoint, and that file's sha256."""

    name: str
    path: Path
    sha256: str


@dataclass(frozen=True)
class DetectorNetwork:
    """A detector as a network.

    Attributes
    ----------
    net
        In evaluation mode.
    classes
        Names of its C classes; a detection's label counts them from 1.
    rgb_stats
        "mean" and "std" of pixel values in [0, 1].
    backbone
        The registered network that it stands on.
    backbone_config
        What distinguishes that from the registered one.
    """

    net: FCOS
    classes: tuple[str, ...]
    rgb_stats: RgbStats
    backbone: str
    backbone_config: dict[str, Any]

    @property
    def fill(self) -> int:
        """The grey around images that were resized to fit, 0 to 255: what the network takes for the mean."""
        return round(255 * sum(self.rgb_stats["mean"]) / 3)


def resolve_detector(word: str | Path | None = None) -> DetectorFile:
    """Tell which file a word for a detector means; the file itself is read by `birder.inference.detector.Detector`.

    Parameters
    ----------
    word
        A registered name, or the path of an ONNX file or a checkpoint (default: the detector that is installed with
        Birder).

    Raises
    ------
    UnknownNameError
        It is neither.
    WeightsError
        The file does not exist, or the installed one is damaged.
    """
    known = detectors()
    name = next(iter(known)) if word is None else str(word)
    if name in known:
        path = DATA / known[name].file
        check_is_file(path)
        if (found := sha256_of(path)) != known[name].sha256:
            raise WeightsError(f"{path} is damaged: its sha256 is {found}. Install Birder again.")
        return DetectorFile(name, path, found)
    path = Path(name)
    if path.suffix.lower() not in ENDINGS:
        error: UnknownNameError = unknown_name("detector", name, known)
        raise UnknownNameError(
            f"{error} A detector of your own is an ONNX file, as MegaDetector.onnx, or a checkpoint that "
            "birder train-detector wrote."
        )
    check_is_file(path)
    return DetectorFile(path.stem, path, sha256_of(path))


def new_detector(
    weights: Weights, classes: Sequence[str], *, size: tuple[int, int], width: int, seed: int
) -> DetectorNetwork:
    """An untrained detector on a trained backbone.

    The backbone is one that the published package has as well: of EfficientNet-Lite0 that of even padding, with the
    same parameters. A ViT gives the map of its last block, before the final norm, for a simple pyramid.

    Parameters
    ----------
    weights
        Of the backbone.
    classes
        Names of its classes.
    size
        Input (height, width) in pixels.
    width
        Channels of the pyramid and the heads.
    seed
        Of the weights that are new.

    Raises
    ------
    ConfigError
        The network cannot take this size, or gives no maps.
    """
    import torch

    from birder.net.fcos import FCOS

    model = weights.load()
    network = network_spec(model.network).published_as or model.network
    cls = network_spec(network).network_class()
    config = (model.info.custom_config or {}) | cls.detector_config
    backbone = create_network(network, 0, input_channels=model.net.input_channels, size=model.net.size, config=config)
    state = model.net.published_state()
    backbone.load_state_dict({key: state[key] for key in backbone.state_dict()})
    if backbone.input_channels != 3:
        raise ConfigError(f"{model.name} takes {backbone.input_channels} channels; a detector needs 3.")
    backbone.adjust_size(size)
    several = len(backbone.return_stages) > 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = FCOS(
            len(classes),
            backbone,
            config={"fpn_width": width} | ({} if several else {"pyramid": "simple"}),
            size=size,
        )
    stats = {key: [float(each) for each in value] for key, value in model.info.rgb_stats.items()}
    return DetectorNetwork(net.eval(), tuple(classes), stats, network, config)


def save_detector(detector: DetectorNetwork, path: Path, state: dict[str, Any] | None = None) -> None:
    """Write a detector as a checkpoint (.pt), whole or not at all; `state` are other parameters than the network's."""
    from birder.weights.checkpoint import Checkpoint, make_detection_signature, write_checkpoint

    net = detector.net
    config = {key: value for key, value in net.config.items() if (key, value) != ("pyramid", "fpn")}
    write_checkpoint(
        path,
        Checkpoint(
            state=dict(net.state_dict() if state is None else state),
            signature=make_detection_signature(net.size, net.num_classes),
            class_to_idx={name: place for place, name in enumerate(detector.classes, 1)},
            rgb_stats=detector.rgb_stats,
            config=config,
            task=DETECTION_TASK,
            network=detector.backbone,
            backbone_config=detector.backbone_config or None,
            detector=_KIND,
        ),
    )


def load_detector(path: Path, *, backbone: str | None = None) -> DetectorNetwork:
    """Load a detector's checkpoint, ours or one of the published package's `fcos`.

    Parameters
    ----------
    path
        The checkpoint.
    backbone
        The registered network that it stands on; default: what the file says, else what its name says, as in
        `fcos_efficientnet_lite0.pt`.

    Raises
    ------
    WeightsError
        The file is missing, damaged, not a detector's, or of a detector or a backbone that Birder does not have.
    """
    import torch

    from birder.net.fcos import FCOS
    from birder.weights.checkpoint import (
        get_channels_from_signature,
        get_num_labels_from_signature,
        get_size_from_signature,
        read_checkpoint,
    )
    from birder.weights.load import check_fits, load_state

    checkpoint = read_checkpoint(path)
    if checkpoint.task != DETECTION_TASK:
        raise WeightsError(
            f"{path} is for {checkpoint.task}, so it finds no boxes. Train a detector on it: birder train-detector"
        )
    network = backbone or checkpoint.network or _backbone_in(path)
    if network is None or checkpoint.detector not in (None, _KIND):
        other = checkpoint.detector not in (None, _KIND)
        what = f"a {checkpoint.detector}" if other else "a detector whose backbone is not named"
        raise WeightsError(
            f"{path} is {what}. Birder runs FCOS; a file of the published birder package is told by its name, as in "
            "fcos_efficientnet_lite0.pt."
        )
    spec = network_spec(network)
    size = get_size_from_signature(checkpoint.signature)
    config = dict(checkpoint.backbone_config or {})
    config |= {key: value for key, value in spec.network_class().detector_config.items() if config.get(key) is None}
    count = get_num_labels_from_signature(checkpoint.signature)
    channels = get_channels_from_signature(checkpoint.signature)
    if channels != 3:
        raise WeightsError(f"{path} takes {channels} channels: Birder runs detectors of RGB images, with 3.")
    try:
        with torch.device("meta"):  # before it is known that the file has these parameters, they take no memory
            base = create_network(network, 0, input_channels=channels, size=size, config=config)
            net = FCOS(count, base, config=checkpoint.config, size=size)
    except (ConfigError, UnknownNameError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise WeightsError(f"{path} cannot be loaded: {' '.join(str(error).split())[:400]}") from error
    check_fits(net, checkpoint.state, str(path))
    net.to_empty(device="cpu")
    load_state(net, checkpoint.state, str(path))
    names = {place: name for name, place in checkpoint.class_to_idx.items()}
    classes = tuple(names.get(place, str(place)) for place in range(1, count + 1))
    net.requires_grad_(False)
    return DetectorNetwork(net.eval(), classes, checkpoint.rgb_stats, network, config)


def _backbone_in(path: Path) -> str | None:
    """The network that the name of a published checkpoint says, KIND_BACKBONE.pt with tags between and after them."""
    kind, _, rest = path.stem.partition("_")
    found = [name for name in list_networks() if f"_{name}_" in f"_{rest}_"]
    return max(found, key=len) if kind == _KIND and found else None
