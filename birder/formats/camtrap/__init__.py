"""Camtrap DP, TDWG's standard for camera traps: data packages read as sources of images, and written (version 1.0.2).

https://camtrap-dp.tdwg.org: datapackage.json, deployments.csv, media.csv, observations.csv.
"""

from birder.formats.camtrap.deployments import read_zone
from birder.formats.camtrap.read import DESCRIPTION, is_package, read_images
from birder.formats.camtrap.write import Project, export
from birder.sources.find import ImageList

IMAGES = ImageList(DESCRIPTION, is_package, read_images)

__all__ = ["IMAGES", "Project", "export", "is_package", "read_images", "read_zone"]
