"""Where images come from: paths, URLs and lists in, one small `Source` for each image out."""

from birder.sources.columns import as_number, common_type, drop_off_earth, fitted, places_on_earth
from birder.sources.files import find_images
from birder.sources.find import sources_again
from birder.sources.read import held_source, load_source, read_json, read_source, stamp_of
from birder.sources.source import (
    NO_COLUMNS,
    RESERVED,
    Box,
    Loaded,
    Part,
    Rows,
    Source,
    Stamp,
    TableRow,
    box_of,
    image_of,
    is_of_same_image,
    is_url,
    path_to_uri,
    readable,
    uri_to_name,
    uri_to_path,
    uri_to_windows_path,
    windows_path_to_uri,
)
from birder.sources.video import time_in_video

__all__ = [
    "NO_COLUMNS",
    "RESERVED",
    "Box",
    "Loaded",
    "Part",
    "Rows",
    "Source",
    "Stamp",
    "TableRow",
    "as_number",
    "box_of",
    "common_type",
    "drop_off_earth",
    "find_images",
    "fitted",
    "held_source",
    "image_of",
    "is_of_same_image",
    "is_url",
    "load_source",
    "path_to_uri",
    "places_on_earth",
    "read_json",
    "read_source",
    "readable",
    "sources_again",
    "stamp_of",
    "time_in_video",
    "uri_to_name",
    "uri_to_path",
    "uri_to_windows_path",
    "windows_path_to_uri",
]
