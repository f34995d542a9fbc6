"""Zero-shot classification: the names of the classes, put into templates, name the images.

Radford et al., arXiv 2103.00020, section 3.1.4, as `birder.naming.by_texts` does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from birder.naming.by_texts import name_by_texts
from birder.naming.prompts import OPENAI_TEMPLATES
from birder.naming.zero_shot import top_labels

if TYPE_CHECKING:
    from birder.weights.clip import LoadedClip

FIRST = 5
"""Names among which the right one is looked for."""


def zero_shot(
    features: npt.NDArray[np.float32],
    classes: Sequence[str],
    clip: LoadedClip,
    templates: Sequence[str] = OPENAI_TEMPLATES,
) -> npt.NDArray[np.int64]:
    """Name images by the names of the classes.

    Parameters
    ----------
    features
        Image features in the space of the texts, float32 (N, E).
    classes
        The names, each one once.
    clip
        The model with a text encoder.
    templates
        Texts with one {} each, where the name goes.

    Returns
    -------
    The five most probable classes of each image, int64 (N, 5), best first; fewer columns where there are fewer classes.
    """
    names = name_by_texts(clip, source=list(classes), templates=templates)
    return top_labels(features, names.labels, names.logit_scale, FIRST).indices
