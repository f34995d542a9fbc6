"""Deployments and media of a Camtrap DP package: those of the original package, or made from the images."""

from __future__ import annotations

import mimetypes
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from birder.collection.schema import DEPLOYMENT
from birder.errors import ConfigError
from birder.images.video import MEDIA_TYPES
from birder.sources import image_of, time_in_video, uri_to_path
from birder.words import counted

COLUMNS = ("uri", "mediaID", *DEPLOYMENT, "captureMethod", "fileName", "taken_at", "latitude", "longitude")
"""Columns of a collection that media and deployments are made of, where it has them."""
DESCRIBED = ("locationID", "locationName", "cameraID", "cameraModel", "habitat")
_METHODS = ("activityDetection", "timeLapse")
_EXAMPLES = 3
Line = dict[str, Any]


class CameraDefaults(NamedTuple):
    """The position of cameras (degrees, WGS 84) and the time zone of their clocks, for images that do not tell it."""

    latitude: float | None
    longitude: float | None
    zone: tzinfo | None


@dataclass
class _Deployment:
    position: tuple[float, float] | None = None
    start: datetime | None = None
    end: datetime | None = None
    described: Line = field(default_factory=dict)


@dataclass
class Deployments:
    """The deployments that rows describe; collected by `add`, row by row.

    Attributes
    ----------
    defaults
        Values that the rows do not have.
    known_media, known_deployments
        Lines of the package that images came from, by their IDs.
    """

    defaults: CameraDefaults
    known_media: Mapping[str, Line]
    known_deployments: Mapping[str, Line]
    methods: set[str] = field(default_factory=set)
    _deployments: dict[str, _Deployment] = field(default_factory=dict)
    _folders: set[str] = field(default_factory=set)
    _untimed: list[str] = field(default_factory=list)
    _untimed_count: int = 0
    _zoneless: bool = False

    def add(self, row: Mapping[str, Any]) -> None:
        """Collect the values of a row."""
        media = self.known_media.get(row.get("mediaID") or "")
        folder = _folder(row["uri"])
        if folder is not None and media is None:
            self._folders.add(folder)
        if (method := row.get("captureMethod")) in _METHODS:
            self.methods.add(method)
        deployment = self._deployments.setdefault(self.place(row), _Deployment())
        if row.get("latitude") is not None and row.get("longitude") is not None:
            deployment.position = deployment.position or (row["latitude"], row["longitude"])
        began = self._began(row)
        if began is None:
            self._untimed_count += 1
            self._untimed += [row["uri"]] if len(self._untimed) < _EXAMPLES else []
            return
        self._zoneless |= began.tzinfo is None and self.defaults.zone is None
        began, moment = self.began(row), self.moment(row)
        deployment.start = min(deployment.start or began, began)
        deployment.end = max(deployment.end or moment, moment)
        for name in DESCRIBED:
            if row.get(name) is not None:
                deployment.described.setdefault(name, row[name])

    def place(self, row: Mapping[str, Any]) -> str:
        """What identifies the deployment of a row, before it is written."""
        media = self.known_media.get(row.get("mediaID") or "")
        return media["deploymentID"] if media else _group(row)

    def began(self, row: Mapping[str, Any]) -> datetime:
        """When the medium of a row was recorded, with a zone; `missing` tells whether this is known of all rows."""
        began = self._began(row)
        assert began is not None, "missing() was not asked"
        return self._zoned(began)

    def moment(self, row: Mapping[str, Any]) -> datetime:
        """When the image of a row was taken, with a zone: of a frame, not of its video's beginning."""
        return self.began(row) + (time_in_video(row["uri"]) or timedelta())

    def _began(self, row: Mapping[str, Any]) -> datetime | None:
        media = self.known_media.get(row.get("mediaID") or "")
        if media is not None:
            return _moment(media["timestamp"])
        taken: datetime | None = row.get("taken_at")
        return taken if taken is None else taken - (time_in_video(row["uri"]) or timedelta())

    def missing(self) -> list[str]:
        """What the standard requires and is not known, each with the option that sets it."""
        new = {name: each for name, each in self._deployments.items() if name not in self.known_deployments}
        missing = []
        if self._untimed_count:
            missing.append(
                f"the time of {counted(self._untimed_count, 'image')}, such as {self._untimed[0]} (column taken_at: "
                "fill "
                "it with birder embed --table, or leave them out with --where 'taken_at IS NOT NULL')"
            )
        if self._zoneless:
            missing.append(
                "the time zone of the cameras' clocks, for timestamp, deploymentStart and deploymentEnd "
                "(--time-zone Europe/Berlin)"
            )
        unplaced = [name for name, each in new.items() if each.position is None]
        if unplaced and (self.defaults.latitude is None or self.defaults.longitude is None):
            named = ", ".join(sorted(map(self._shown, unplaced))[:_EXAMPLES])
            more = ", ..." if len(unplaced) > _EXAMPLES else ""
            missing.append(
                f"latitude and longitude of {counted(len(unplaced), 'deployment')}, {named}{more} "
                "(--latitude and --longitude, or columns with these names)"
            )
        return missing

    def lines(self, *, whole: bool) -> list[Line]:
        """The lines of deployments.csv: the original package's, if `whole` all, else those of rows; and others."""
        known = self.known_deployments.items()
        lines = [dict(line) for name, line in known if whole or name in self._deployments]
        for name, each in sorted(self._deployments.items()):
            if name in self.known_deployments:
                continue
            latitude, longitude = each.position or (self.defaults.latitude, self.defaults.longitude)
            line = {"deploymentID": self._shown(name), **each.described, "latitude": latitude, "longitude": longitude}
            ends = {"deploymentStart": each.start, "deploymentEnd": each.end}
            lines.append(line | {name: iso(moment) for name, moment in ends.items() if moment is not None})
        return lines

    def medium(self, row: Mapping[str, Any]) -> Line:
        """The line of media.csv for a row."""
        media = self.known_media.get(row.get("mediaID") or "")
        if media is not None:
            return dict(media)
        file, _, _ = row["uri"].partition("#")
        # the image, whichever of its boxes the row is of; all frames of a video are one medium
        image = file if time_in_video(row["uri"]) is not None else image_of(row["uri"])
        path = self._path(image) + image[len(file) :]
        name = row.get("fileName") or path.rpartition("/")[2]
        identity = row.get("mediaID") or str(uuid.uuid5(uuid.NAMESPACE_URL, image))
        return {
            "mediaID": identity,
            "deploymentID": self._shown(_group(row)),
            "captureMethod": row.get("captureMethod") if row.get("captureMethod") in _METHODS else None,
            "timestamp": iso(self.began(row)),
            "filePath": path,
            "filePublic": path.startswith(("http://", "https://")),
            "fileName": name,
            "fileMediatype": _media_type(name, path),
        }

    def _zoned(self, moment: datetime) -> datetime:
        if moment.tzinfo is not None:
            return moment
        return moment.replace(tzinfo=self.defaults.zone or timezone.utc)  # noqa: UP017 - `missing` refuses to go on without

    @property
    def _root(self) -> str | None:
        return os.path.commonpath(self._folders) if self._folders else None

    def _shown(self, group: str) -> str:
        """The ID of a deployment: a folder relative to the one that all are in."""
        if not os.path.isabs(group) or self._root is None:  # noqa: PTH117 - of no file
            return group
        relative = os.path.relpath(group, self._root)
        return Path(group).name or "deployment" if relative == "." else Path(relative).as_posix()

    def _path(self, uri: str) -> str:
        """Relative to the folder that all images are in, or the URL."""
        folder = _folder(uri)
        if folder is None or self._root is None:
            return uri.partition("#")[0]
        path = Path(os.path.relpath(uri_to_path(uri), self._root)).as_posix()
        if path.startswith((".", "~")) or ".." in path:
            raise ConfigError(
                f"Camtrap DP does not allow paths such as {path}. Rename it, or leave it out with --where."
            )
        return path


def read_zone(text: str) -> tzinfo:
    """A time zone by its name (Europe/Berlin) or as hours from UTC (+02:00).

    Raises
    ------
    ConfigError
        The zone is unknown.
    """
    if text[:1] in "+-":
        try:
            offset = datetime.strptime(text, "%z").utcoffset()
            return timezone(offset or timedelta())
        except ValueError:
            pass
    else:
        try:
            return ZoneInfo(text)
        except (KeyError, ValueError, OSError):
            pass
    raise ConfigError(f"Unknown time zone {text!r}. Write it as Europe/Berlin or +02:00.")


def _folder(uri: str) -> str | None:
    return os.path.dirname(uri_to_path(uri)) if uri.startswith("file://") else None  # noqa: PTH120 - bytes survive


def _group(row: Mapping[str, Any]) -> str:
    """What identifies the deployment of an image: its ID, else its folder."""
    identity = next((row[name] for name in DEPLOYMENT if row.get(name)), None)
    return str(identity) if identity else _folder(row["uri"]) or row["uri"].rpartition("/")[0]


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def iso(moment: datetime) -> str:
    """A time as the standard writes it: in whole seconds, with its zone."""
    return moment.isoformat(timespec="seconds")


def _media_type(*names: str) -> str:
    for name in names:
        kind = MEDIA_TYPES.get(os.path.splitext(name)[1].lower()) or mimetypes.guess_type(name)[0]  # noqa: PTH122
        if kind is not None and kind.startswith(("image/", "video/", "audio/")):
            return kind
    return "image/jpeg"
