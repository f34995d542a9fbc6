"""What a user's word for a model means: one function, one answer.

`resolve` reads no weights, fetches nothing and does not import torch; the methods of what it returns do.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birder.errors import NoTextEncoderError, UnknownNameError, WeightsError, unknown_name
from birder.registry import (
    HEAD_ENDING,
    HUB_PREFIX,
    WeightsSpec,
    list_networks,
    list_pretrained_models,
    network_spec,
    registered_name,
    weights_spec,
)
from birder.weights import openclip_files
from birder.weights.hub import cached_file, check_is_file, fetch, sha256_of

if TYPE_CHECKING:
    import torch

    from birder.weights.head import Head
    from birder.weights.load import LoadedModel
    from birder.weights.loaded_clip import LoadedClip

FOLDER_PREFIX = "local-dir:"
"""The prefix of folders in open_clip."""
_SUFFIXES = (".pt", ".safetensors")


class Kind(StrEnum):
    """What a word for a model names."""

    registered = "registered"  # weights of registry.toml or of the user's own table
    hub = "hub"  # a hub repository in OpenCLIP's layout
    folder = "folder"  # a folder in OpenCLIP's layout
    file = "file"  # a checkpoint in the Birder format
    head = "head"  # a classifier alone, NAME.head.safetensors


@dataclass(frozen=True)
class Model:
    """A model that has a name, and may not be on this machine yet.

    Every model has an image encoder. However its weights are spelled, images are prepared for it in the same way:
    resized to its input as a whole (`birder.classification_transform`), with the statistics that belong to the weights.

    Attributes
    ----------
    kind
        What was named.
    name
        What Birder calls it in outputs: the registered name, the repository, the folder, or the file's name.
    source
        What stands for it later, on this machine and in any folder: the registered name, the repository, or the
        absolute path.
    spec
        The registry's entry; None if the weights are not registered.
    openclip
        The hub repository or folder in OpenCLIP's layout that has its text encoder; None for an image encoder alone.
    """

    kind: Kind
    name: str
    source: str
    spec: WeightsSpec | None = None
    openclip: str | None = None

    @property
    def has_text_encoder(self) -> bool:
        """Whether texts can be compared with its image features."""
        return self.openclip is not None

    @property
    def has_classes(self) -> bool | None:
        """Whether its classifier has class names; None if only the checkpoint shows it."""
        if self.kind in (Kind.hub, Kind.folder):
            return False
        if self.kind == Kind.head:
            return True
        return True if self.spec is not None and self.spec.classes is not None else None

    @property
    def pinned_sha256(self) -> str | None:
        """The sha256 that the registry has for the weights; None if their file must be read for it."""
        return None if self.spec is None else self.spec.sha256

    @property
    def network(self) -> str | None:
        """The registered network; None of OpenCLIP's layout, whose files must be read for it (`fetch`).

        Raises
        ------
        WeightsError
            The name of a checkpoint file does not begin with a network's, and the file does not say it either; or a
            detached head's backbone cannot be found.
        """
        if self.spec is not None:
            return self.spec.network
        if self.kind == Kind.head:
            return self.encoder().network
        return network_of_checkpoint(Path(self.source)) if self.kind == Kind.file else None

    def image_encoder_is_here(self) -> bool:
        """Whether the weights of the image encoder are on this machine. Nothing is fetched."""
        if self.spec is not None:
            return cached_file(self.spec) is not None
        if self.kind == Kind.head:
            try:
                return self.encoder().image_encoder_is_here()
            except WeightsError:
                return False
        return Path(self.source).is_file() if self.kind == Kind.file else self.text_encoder_is_here()

    def text_encoder_is_here(self) -> bool:
        """Whether there is a text encoder, and its weights are on this machine. Nothing is fetched."""
        return self.openclip is not None and openclip_files.are_cached(self.openclip)

    def fetch(self) -> Weights:
        """The weights of the image encoder on this machine, fetched if need be.

        Raises
        ------
        HubError
            The hub is out of reach or does not have them.
        WeightsError
            The checksum is wrong, or the files are not what they should be.
        """
        if self.kind in (Kind.hub, Kind.folder):
            assert self.openclip is not None  # of these kinds it is the source itself
            files = openclip_files.fetch_files(self.openclip)
            from birder.weights.openclip_convert import network_of_config

            config = openclip_files.read_config(files.config)
            return Weights(self, network_of_config(config), files.weights, sha256_of(files.weights), config)
        if self.kind == Kind.head:
            return self._fetch_backbone()
        path = Path(self.source) if self.spec is None else fetch(self.spec)
        check_is_file(path)
        config = {} if self.spec is None else self.spec.config
        return Weights(self, str(self.network), path, self.pinned_sha256 or sha256_of(path), config)

    def load_image_encoder(self, *, device: torch.device | str | None = None) -> LoadedModel:
        """Load the image encoder for inference; raises as `fetch`, and `ConfigError` for an unusable configuration."""
        loaded = self.fetch().load(device=device)
        if self.kind == Kind.head:
            from birder.weights.head import with_head

            return with_head(loaded, self.load_head(), self.name, sha256_of(Path(self.source)))
        return loaded

    def load_head(self) -> Head:
        """The classifier of a checkpoint file with class names, or of a detached head.

        Raises
        ------
        WeightsError
            It is neither, or the file is damaged.
        """
        from birder.weights.head import load_head

        if self.kind not in (Kind.file, Kind.head):
            raise WeightsError(
                f"{self.name} is not the file of a classifier: name one that birder adapt wrote, or another checkpoint "
                "file with class names."
            )
        return load_head(Path(self.source))

    def encoder(self) -> Model:
        """What gives the embeddings: of a detached head the model that its backbone's name means, else this model.

        Raises
        ------
        WeightsError
            The backbone's name does not name a model here.
        """
        if self.kind != Kind.head:
            return self
        backbone = self.load_head().backbone
        try:
            found = resolve(str(backbone.get("name")))
        except (UnknownNameError, WeightsError):
            found = None
        if found is None or found.kind == Kind.head:
            raise WeightsError(
                f"{self.source} is a classifier alone, and its backbone, {backbone.get('name')}, is not a model that "
                "Birder finds by this name. It names the rows of a collection of that model without it: "
                f"birder predict --in COLLECTION --model {self.source}"
            )
        return found

    def _fetch_backbone(self) -> Weights:
        """The weights of a detached head's backbone, told by the sha256 of its tensors."""
        told = self.load_head().backbone
        weights = self.encoder().fetch()
        if told.get("weights_sha256") != weights.sha256 and told.get("sha256") is not None:
            found = weights.backbone_sha256()
            if found != told["sha256"]:
                raise WeightsError(
                    f"{self.source} was made for {told.get('name')} (backbone sha256 {told['sha256'][:12]}), but "
                    f"{weights.model.source} here has {found[:12]}: get the weights that it was made for."
                )
        return weights

    def text_encoder(self) -> str:
        """The hub repository or folder in OpenCLIP's layout that has the text encoder.

        Raises
        ------
        NoTextEncoderError
            There is none; the message names weights that have one.
        """
        if self.openclip is not None:
            return self.openclip
        if self.spec is not None and self.spec.text_encoder_note is not None:
            note = self.spec.text_encoder_note
        elif self.kind == Kind.head:
            note = "It is a classifier alone."
        elif self.kind == Kind.file:
            note = (
                "A checkpoint in the Birder format is an image encoder alone: name the model that it came from. If it "
                f"is one of OpenCLIP, put its {openclip_files.CONFIG_FILE} beside it and name the folder."
            )
        else:
            note = ""
        known = (name for name in list_pretrained_models() if weights_spec(name).openclip is not None)
        raise NoTextEncoderError(
            f"{self.name} has no text encoder. {note}{' ' if note else ''}Registered weights with one: "
            f"{', '.join(known)}; or name a folder or a hub repository in OpenCLIP's layout."
        )

    def load_clip(self, *, device: torch.device | str | None = None) -> LoadedClip:
        """Load image encoder and text encoder together.

        Raises
        ------
        NoTextEncoderError
            There is no text encoder.
        HubError
            The hub is out of reach or does not have the model.
        WeightsError
            The text encoder is of a kind that Birder does not support, or the files are damaged.
        """
        from birder.weights.loaded_clip import load_openclip

        return load_openclip(self.text_encoder(), self.name, device=device)


@dataclass(frozen=True)
class Weights:
    """The weights of an image encoder on this machine.

    Attributes
    ----------
    model
        What they are the weights of.
    network
        The registered network.
    path, sha256
        The file, and its sha256: two image encoders are the same if it is.
    config
        What changes the network beside the checkpoint: the registry's configuration, or OpenCLIP's.
    """

    model: Model
    network: str
    path: Path
    sha256: str
    config: dict[str, Any]

    @property
    def bf16(self) -> bool:
        """Whether the network may be run in bf16 unasked."""
        return network_spec(self.network).bf16

    def load(self, *, device: torch.device | str | None = None) -> LoadedModel:
        """Load them into their network, for inference."""
        from birder.weights.load import load_weights

        return load_weights(
            self.model.name,
            self.network,
            self.path,
            self.sha256,
            spec=self.model.spec,
            openclip=self._openclip,
            config=self.config,
            device=device,
        )

    def backbone_sha256(self) -> str:
        """The sha256 of the backbone's tensors alone (`birder.weights.backbone`), kept in Birder's cache."""
        from birder.weights.backbone import kept_backbone_sha256
        from birder.weights.load import read_weights

        return kept_backbone_sha256(
            self.sha256, lambda: read_weights(self.path, spec=self.model.spec, openclip=self._openclip).state
        )

    @property
    def _openclip(self) -> str | None:
        return self.model.openclip if self.model.kind in (Kind.hub, Kind.folder) else None


def resolve(word: str | Path | Model) -> Model:
    """What a user's word for a model means.

    Parameters
    ----------
    word
        In this order: a name of registered weights; a checkpoint file (.pt, .safetensors) that says its network, as
        those of this Birder do, or whose name begins with it, as in `vit_b16_pn_mine.pt`; a detached head
        (`NAME.head.safetensors`); a folder in OpenCLIP's layout, also written `local-dir:FOLDER`; a hub
        repository `OWNER/NAME`, also written `hf-hub:OWNER/NAME`, which means the registered weights where it is
        theirs. A `Model` is returned as it is.

    Raises
    ------
    UnknownNameError
        It is none of these; the message names the closest registered weights.
    WeightsError
        A path that is not a checkpoint, or a malformed repository.
    """
    if isinstance(word, Model):
        return word
    text = str(word).removeprefix(FOLDER_PREFIX)
    name = registered_name(text)
    if name is not None:
        spec = weights_spec(name)
        return Model(Kind.registered, name, name, spec, spec.openclip)
    if text.startswith(HUB_PREFIX):
        return _hub(openclip_files.checked_repository(text.removeprefix(HUB_PREFIX)))
    path = Path(text)
    if path.is_dir() and not (path.suffix in _SUFFIXES and not (path / openclip_files.CONFIG_FILE).exists()):
        folder = str(path.resolve())
        return Model(Kind.folder, text, folder, openclip=folder)
    if path.suffix in _SUFFIXES and (path.exists() or path.is_symlink()):
        check_is_file(path)
        kind = Kind.head if path.name.endswith(HEAD_ENDING) else Kind.file
        return Model(kind, path.stem, str(path.resolve()))
    if path.exists():
        raise WeightsError(
            f"{path} is not a checkpoint in the Birder format (.pt or .safetensors). One of OpenCLIP becomes one with: "
            "birder convert SOURCE --to FILE"
        )
    if openclip_files.is_repository(text) and path.suffix not in _SUFFIXES:
        return _hub(text)
    raise UnknownNameError(
        f"{unknown_name('model', text, list_pretrained_models())} A model may also be a checkpoint file, or a folder "
        "or a hub repository (OWNER/NAME) in OpenCLIP's layout."
    )


def _hub(repository: str) -> Model:
    return Model(Kind.hub, repository, repository, openclip=repository)


def network_of_checkpoint(path: Path) -> str:
    """The network of a checkpoint file: as its name says, else as the file itself does; `WeightsError` if neither."""
    try:
        return network_of_file(path)
    except WeightsError:
        from birder.weights.checkpoint import read_checkpoint

        network = read_checkpoint(path).network
        if network is None or network not in list_networks():
            raise
        return network


def network_of_file(path: Path) -> str:
    """The registered network whose name a checkpoint file's name begins with; `WeightsError` if there is none."""
    matching = [name for name in list_networks() if path.stem == name or path.stem.startswith(f"{name}_")]
    if not matching:
        raise WeightsError(
            f"Cannot tell the network of {path}: begin the file's name with it, as in vit_b16_pn_mine{path.suffix}. "
            f"Networks: {', '.join(list_networks())}."
        )
    return max(matching, key=len)
