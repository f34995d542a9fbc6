"""Uploaded images: their embeddings, predictions for them, and the images nearest to them. None of them is kept."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, File, Form, HTTPException, UploadFile

from birder.errors import ImageError
from birder.images.apart import Decoders
from birder.images.transform import ClassificationTransform
from birder.naming.method import DEFAULT_METHOD, Method
from birder.server.model import Vector
from birder.server.nearest import nearest
from birder.server.responses import Embedding, Predictions, SearchHits
from birder.server.routes.predictions import names_of
from birder.server.site import PROBLEMS, CurrentSite, Site

MAX_IMAGES = 8

router = APIRouter(tags=["uploaded images"], responses=PROBLEMS)

ImageFile = Annotated[UploadFile, File(description="JPEG, PNG, WebP, TIFF, HEIC, ...; at most 64 MB")]


@router.post("/embed", response_model=Embedding)
async def embed(site: CurrentSite, file: ImageFile) -> dict[str, Any]:
    """The embedding of an image, as the collection's model gives it, not normalised."""
    decoded, vector = await _embedded(site, file)
    model = site.catalogue.current().collection.model
    return {
        "embedding": vector.tolist(),
        "model": model.name,
        "precision": model.precision,
        "width": decoded.width,
        "height": decoded.height,
    }


@router.post("/predict", response_model=Predictions)
async def predict(
    site: CurrentSite,
    file: ImageFile,
    k: Annotated[int, Form(ge=1, le=100)] = 5,
    column: Annotated[str, Form(min_length=1, max_length=300, description="The column of labels")] = "label",
    method: Annotated[Method, Form(description="How labelled images name others")] = DEFAULT_METHOD,
) -> dict[str, Any]:
    """Names for an image.

    By the classifier that the server was given, if it was; else by the labelled images of the collection where there
    are labels of two classes or more, else by the classes of the network's classifier.
    """
    _, vector = await _embedded(site, file)
    return await names_of(site, vector, column, k, method)


@router.post("/search/image", response_model=SearchHits)
async def search_image(
    site: CurrentSite,
    file: Annotated[
        list[UploadFile],
        File(min_length=1, max_length=MAX_IMAGES, description="One or several images; at most 64 MB together"),
    ],
    where: Annotated[
        str | None, Form(max_length=10_000, description="A filter: an SQL expression on the columns")
    ] = None,
    k: Annotated[int, Form(ge=1, le=1000)] = 50,
) -> dict[str, Any]:
    """Find the images nearest to an image, or to the mean of several, nearest first."""
    vectors = [(await _embedded(site, each))[1] for each in file]
    snapshot = site.catalogue.current()
    photos = await site.searches.run(nearest, snapshot, vectors=vectors, where=where, k=k)
    return {"photos": photos, "query": {"files": [each.filename for each in file], "where": where, "k": k}}


class Upload(NamedTuple):
    """An image as pixels (H, W, 3) uint8 for the network; its own width and height."""

    pixels: npt.NDArray[np.uint8]
    width: int
    height: int


async def _embedded(site: Site, file: UploadFile) -> tuple[Upload, Vector]:
    """An image decoded in a separate process, and its embedding."""
    site.model.check_can_embed()
    transform = site.catalogue.current().collection.model.transform
    if "size" not in transform:  # of imported embeddings; the model that made them says it
        transform = await site.model.workers.run(site.model.transform)
    try:
        decoded = await site.uploads.run(decode_upload, site.decoders, file.file, transform)
    except ImageError as error:
        raise HTTPException(400, f"The image cannot be used: {error}. Send another.") from None
    return decoded, await site.model.workers.run(site.model.embed, decoded.pixels)


def decode_upload(decoders: Decoders, file: BinaryIO, transform: dict[str, Any]) -> Upload:
    """Decode an image for the transform of a collection's card; `ImageError` where that cannot be done.

    It is read here, so that those that wait take no memory.
    """
    data = b"" if file.closed else file.read()
    if not data:
        raise ImageError("it is empty")
    size = ClassificationTransform.from_card(transform).resize_to
    with contextlib.ExitStack() as held:
        photo = decoders.decode(data, size if transform["draft"] else None, held, transform)
        return Upload(np.asarray(photo.image), photo.width, photo.height)
