"""The texts that stand for a label: templates around a name, and the ways to write a taxon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from birder.errors import ConfigError, UnknownNameError
from birder.taxonomy import COMMON_NAME, RANKS, taxon_of

# OpenAI's 80 templates for ImageNet (Radford et al., arXiv 2103.00020, section 3.1.4), as published with CLIP in
# notebooks/Prompt_Engineering_for_ImageNet.ipynb of github.com/openai/CLIP (MIT). pybioclip and TreeOfLife's published
# text embeddings use them too.
OPENAI_TEMPLATES: tuple[str, ...] = (
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a sculpture of a {}.",
    "a photo of the hard to see {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "graffiti of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a tattoo of a {}.",
    "the embroidered {}.",
    "a photo of a hard to see {}.",
    "a bright photo of a {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a dark photo of the {}.",
    "a drawing of a {}.",
    "a photo of my {}.",
    "the plastic {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a painting of the {}.",
    "a painting of a {}.",
    "a pixelated photo of the {}.",
    "a sculpture of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a plastic {}.",
    "a photo of the dirty {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a {} in a video game.",
    "a photo of one {}.",
    "a doodle of a {}.",
    "a close-up photo of the {}.",
    "a photo of a {}.",
    "the origami {}.",
    "the {} in a video game.",
    "a sketch of a {}.",
    "a doodle of the {}.",
    "a origami {}.",
    "a low resolution photo of a {}.",
    "the toy {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a rendition of a {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a blurry photo of a {}.",
    "a cartoon {}.",
    "art of a {}.",
    "a sketch of the {}.",
    "a embroidered {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a good photo of a {}.",
    "a plushie {}.",
    "a photo of the nice {}.",
    "a photo of the small {}.",
    "a photo of the weird {}.",
    "the cartoon {}.",
    "art of the {}.",
    "a drawing of the {}.",
    "a photo of the large {}.",
    "a black and white photo of a {}.",
    "the plushie {}.",
    "a dark photo of a {}.",
    "itap of a {}.",
    "graffiti of the {}.",
    "a toy {}.",
    "itap of my {}.",
    "a photo of a cool {}.",
    "a photo of a small {}.",
    "a tattoo of the {}.",
)
BIOCLIP_TEMPLATES: tuple[str, ...] = ("a photo of {}.", *OPENAI_TEMPLATES)
"""The 81 templates by which BioCLIP and BioCLIP 2 were evaluated (src/training/imagenet_zeroshot_data.py of both)."""


class TextType(StrEnum):
    """How a taxon is written for the text encoder (Stevens et al., arXiv 2311.18803, "Text types")."""

    common = "common"
    scientific = "scientific"
    taxonomic = "taxonomic"
    scientific_common = "scientific+common"
    taxonomic_common = "taxonomic+common"


def check_templates(templates: Sequence[str]) -> None:
    """Raise `ConfigError` for a template that does not have exactly one place, {}, for the label."""
    if not templates:
        raise ConfigError('Give at least one template, such as "a photo of {}.".')
    for template in templates:
        if template.count("{}") != 1:
            raise ConfigError(f'The template {template!r} needs {{}} once, where the label goes: "a photo of {{}}.".')


def fill(templates: Sequence[str], label: str) -> list[str]:
    """The label's texts, one for each template."""
    return [template.replace("{}", label) for template in templates]


def taxon_text(taxon: Mapping[str, str], text_type: TextType) -> str:
    """A taxon as the text encoder reads it.

    Parameters
    ----------
    taxon
        Names by rank (`RANKS`; the species as genus and epithet) and `common_name`; what is empty or absent is unknown.
    text_type
        "common": black-billed magpie; "scientific": Pica hudsonia; "taxonomic": Animalia Chordata Aves Passeriformes
        Corvidae Pica hudsonia; with "+common", "with common name black-billed magpie" follows where one is known.

    Raises
    ------
    UnknownNameError
        The text type asks for a name that the taxon does not have.
    """
    common = taxon.get(COMMON_NAME, "")
    names = taxon_of(taxon)
    if text_type == TextType.common:
        if not common:
            known = ", ".join(names.values()) or "a taxon"
            raise UnknownNameError(f"No common name of {known}: fill in common_name, or choose another text type.")
        return common
    if not names:
        raise UnknownNameError(f"A taxon has no name at any rank ({', '.join(RANKS)}): fill in one of them.")
    if text_type in (TextType.scientific, TextType.scientific_common):
        name = list(names.values())[-1]
    else:
        # The species already says its genus.
        name = " ".join(value for rank, value in names.items() if not (rank == "genus" and "species" in names))
    with_common = common and text_type in (TextType.scientific_common, TextType.taxonomic_common)
    return f"{name} with common name {common}" if with_common else name
