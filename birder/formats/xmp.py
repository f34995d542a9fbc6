"""Names in XMP sidecars beside images, as digiKam and Lightroom read them.

The properties: `dc:subject` (ISO 16684-1, an unordered list of keywords), `lr:hierarchicalSubject` (Adobe Lightroom's,
levels separated by |), `digiKam:TagsList` (digiKam's, levels separated by /). What a sidecar contains already stays;
names that an earlier export wrote, which `birder:names` lists, are replaced.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from xml.dom import minidom
from xml.parsers.expat import ExpatError

from birder.collection.journal import Journal
from birder.collection.provenance import source_of
from birder.collection.schema import LABEL_SOURCE
from birder.collection.storage import Storage
from birder.errors import BirderError, CollectionError, ConfigError
from birder.files import replacing
from birder.formats.names import LABEL, Name, namer
from birder.formats.snapshot import Snapshot
from birder.formats.table import ExportReport, FileCounts
from birder.sources import readable, uri_to_path

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_META = "adobe:ns:meta/"
_OURS = ("urn:birder:xmp:1", "birder", "names")
_SUBJECT = ("http://purl.org/dc/elements/1.1/", "dc", "subject")
_HIERARCHICAL = ("http://ns.adobe.com/lightroom/1.0/", "lr", "hierarchicalSubject")
_TAGS = ("http://www.digikam.org/ns/1.0/", "digiKam", "TagsList")
_PROPERTIES = {_SUBJECT: "Bag", _HIERARCHICAL: "Bag", _TAGS: "Seq"}
_MOST_BYTES = 16 * 2**20
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PLACEHOLDERS = {"\n": "\ufdd0", "\r": "\ufdd1", "\t": "\ufdd2"}
"""Characters that a parser reads as spaces, and noncharacters that replace them while a document is written."""
_EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    f'<x:xmpmeta xmlns:x="{_META}"><rdf:RDF xmlns:rdf="{RDF}"><rdf:Description rdf:about=""/></rdf:RDF></x:xmpmeta>'
    '<?xpacket end="w"?>'
)


def export(
    collection: Storage, rows: Snapshot, to: Path, *, force: bool, by: str = LABEL, folder_labels: bool = False
) -> ExportReport:
    """Write the names of images into sidecars beside them; see `write_sidecars`. They are merged, `force` or not."""
    done = write_sidecars(rows, to, by=by, folder_labels=folder_labels)
    outside = "images are outside this folder and were left out."
    return done.report(f"sidecars written in {to}", "were complete", outside)


def write_sidecars(rows: Snapshot, folder: Path, *, by: str = LABEL, folder_labels: bool = False) -> FileCounts:
    """Write the names of the images in a folder into sidecars beside them.

    The sidecar of `IMG_1.jpg` is `IMG_1.jpg.xmp`, or `IMG_1.xmp` if that exists (Adobe's way, for a raw file and its
    JPEG together). All boxes on an image count. Each sidecar is replaced whole.

    Parameters
    ----------
    rows
        The rows.
    folder
        Images outside it are left out.
    by
        "label", "prediction", or a column of text.
    folder_labels
        Also use labels that were taken from the name of a folder, which nobody has confirmed.

    Raises
    ------
    CollectionError
        No image of the rows has a name and is in the folder.
    ConfigError, UnknownNameError
        It is not a folder, or rows do not have such names; see `namer`.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder: name the one that the images are in. Sidecars are beside them.")
    done = FileCounts()
    for path, names in _names(rows, folder.resolve(), by, folder_labels, done).items():
        try:
            if _write(_sidecar(Path(path)), names):
                done.written += 1
            else:
                done.unchanged += 1
        except (OSError, ConfigError) as error:
            done.fail(path, error)
    if not done.written and not done.unchanged and not done.failures:
        raise CollectionError(
            f"No image in {folder} has a name ({by}): name the folder that the images are in. "
            "Names of folders count only with --folder-labels."
        )
    return done


def _names(rows: Snapshot, root: Path, by: str, folder_labels: bool, done: FileCounts) -> dict[str, list[Name]]:
    """The names of each image below `root`, by its path."""
    naming = namer(rows.schema, by)
    journal = Journal(rows.path)
    journal.read()
    columns = ["id", "uri", *(name for name in (LABEL_SOURCE,) if name in rows.schema.names), *naming.columns]
    names: dict[str, list[Name]] = {}
    outside: set[str] = set()
    missing: dict[str, None] = {}
    for table in rows.batches(list(dict.fromkeys(columns))):
        for row in table.to_pylist():
            if by == LABEL and row[LABEL] and not folder_labels and source_of(journal, row).kind == "folder":
                row[LABEL] = None
            name = naming.name(row)
            if name is None:
                continue
            uri, _, fragment = row["uri"].partition("#")
            try:
                path = uri_to_path(uri) if not fragment or fragment.startswith("xywh=") else None
            except (BirderError, ValueError):
                path = None
            if path is None or not Path(path).parent.resolve().is_relative_to(root):
                outside.add(uri)
            elif not os.path.lexists(path):
                missing[path] = None
            else:
                names.setdefault(path, []).append(name)
    done.left_out = len(outside)
    done.failures += [(path, "the image no longer exists") for path in missing]
    return names


def _sidecar(image: Path) -> Path:
    usual, adobes = image.with_name(image.name + ".xmp"), image.with_suffix(".xmp")
    return adobes if adobes.is_file() and not usual.exists() else usual


def _write(file: Path, names: Iterable[Name]) -> bool:
    """Merge the names into a sidecar; False if it has them already."""
    if file.is_symlink():
        raise ConfigError(f"{readable(file.name)} is a link")
    before = file.read_bytes() if file.exists() else None
    try:
        document = _parsed(_EMPTY.encode() if before is None else before, file)
        if not _merge(document, _wanted(names)):
            return False
        data = _serialized(document)
    except RecursionError:
        raise ConfigError(f"{readable(file.name)} is nested too deeply for a sidecar; it stays as it is") from None
    with replacing(file, durable=True) as draft:
        draft.write_bytes(data)
    return True


def _parsed(data: bytes, file: Path) -> minidom.Document:
    name = readable(file.name)
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{name} has {len(data):,} bytes, too many for a sidecar")
    if b"<!DOCTYPE" in data.replace(b"\0", b""):  # entities, which XMP has no use for
        raise ConfigError(f"{name} has a DOCTYPE, which XMP does not allow")
    try:
        document = minidom.parseString(data)
    except (ExpatError, ValueError, LookupError) as error:
        raise ConfigError(f"{name} exists and is not valid XML ({error}); it stays as it is") from error
    if not document.getElementsByTagNameNS(RDF, "RDF"):
        document.unlink()
        raise ConfigError(f"{name} exists and has no rdf:RDF, so it is not XMP; it stays as it is")
    return document


def _serialized(document: minidom.Document) -> bytes:
    """The document as UTF-8. Line ends in attributes, which minidom would write unescaped and so lose, are escaped."""
    nodes: list[minidom.Node] = [document]
    while nodes:
        node = nodes.pop()
        nodes += node.childNodes
        if isinstance(node, minidom.Text):
            node.data = node.data.replace("\r", _PLACEHOLDERS["\r"])
        for attribute in node.attributes.values() if isinstance(node, minidom.Element) else ():
            for character, mark in _PLACEHOLDERS.items():
                attribute.value = attribute.value.replace(character, mark)
    data: bytes = document.toxml(encoding="utf-8")
    for character, mark in _PLACEHOLDERS.items():
        data = data.replace(mark.encode(), f"&#{ord(character)};".encode())
    return data


_Property = tuple[str, str, str]


def _wanted(names: Iterable[Name]) -> dict[_Property, list[str]]:
    """The values that each property should have."""
    wanted: dict[_Property, dict[str, None]] = {each: {} for each in _PROPERTIES}
    for name in names:
        own = _text(name.name)
        levels = [_text(each) for each in name.ranks] or [own]
        wanted[_SUBJECT].update(dict.fromkeys([own, levels[-1]]))
        wanted[_HIERARCHICAL]["|".join(level.replace("|", "-") for level in levels)] = None
        wanted[_TAGS]["/".join(level.replace("/", "-") for level in levels)] = None
    return {each: list(values) for each, values in wanted.items()}


def _text(value: str) -> str:
    return _NOT_XML.sub("", value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")).strip() or "?"


def _merge(document: minidom.Document, wanted: dict[_Property, list[str]]) -> bool:
    """Merge values into a document, in place of those of an earlier export; whether anything changed.

    `birder:names` lists the values that are ours: `dc:subject owl`. A value that was there before never is, and stays.
    """
    before = {value: item for item, value in _items(_list(document, _OURS, "Bag", make=False))}
    ours = []
    changed = False
    for property_, kind in _PROPERTIES.items():
        prefix = f"{property_[1]}:{property_[2]} "
        mine = {value.removeprefix(prefix) for value in before if value.startswith(prefix)}
        values = wanted[property_]
        for item, value in _items(_list(document, property_, kind, make=False)):
            if value in mine and value not in values:
                assert item.parentNode is not None
                item.parentNode.removeChild(item)
                changed = True
        there = {value for _, value in _items(_list(document, property_, kind, make=False))}
        missing = [value for value in values if value not in there]
        if missing:
            _add(document, _list(document, property_, kind, make=True), missing)
            changed = True
        ours += [prefix + value for value in values if value in mine or value in missing]
    if set(ours) != set(before):
        changed = True
        for item in before.values():
            assert item.parentNode is not None
            item.parentNode.removeChild(item)
        _add(document, _list(document, _OURS, "Bag", make=True), ours)
    return changed


def _list(document: minidom.Document, property_: _Property, kind: str, *, make: bool) -> minidom.Element | None:
    """The rdf:Bag or the like of a property; if there is none, a new one with `make`, else None."""
    uri, prefix, name = property_
    for element in document.getElementsByTagNameNS(uri, name):
        parent = element.parentNode
        if parent is None or (parent.namespaceURI, parent.localName) != (RDF, "Description"):
            continue
        for child in element.childNodes:
            if child.nodeType == child.ELEMENT_NODE and child.namespaceURI == RDF:
                return child
    if not make:
        return None
    root = document.getElementsByTagNameNS(RDF, "RDF")[0]
    rdf = root.prefix or "rdf"
    if not root.prefix:
        raise ConfigError("its RDF has no prefix; it stays as it is")
    description = document.createElementNS(RDF, f"{rdf}:Description")
    description.setAttributeNS(RDF, f"{rdf}:about", _about(root))
    description.setAttribute(f"xmlns:{prefix}", uri)
    element = document.createElementNS(uri, f"{prefix}:{name}")
    bag = document.createElementNS(RDF, f"{rdf}:{kind}")
    element.appendChild(bag)
    description.appendChild(element)
    root.appendChild(description)
    return bag


def _about(root: minidom.Element) -> str:
    for child in root.childNodes:
        if child.nodeType == child.ELEMENT_NODE and (child.namespaceURI, child.localName) == (RDF, "Description"):
            return str(child.getAttributeNS(RDF, "about"))
    return ""


def _items(bag: minidom.Element | None) -> list[tuple[minidom.Element, str]]:
    """The rdf:li of a list, with their texts."""
    return [
        (child, "".join(node.data for node in child.childNodes if node.nodeType in (node.TEXT_NODE, 4)).strip())
        for child in (bag.childNodes if bag is not None else ())
        if child.nodeType == child.ELEMENT_NODE and (child.namespaceURI, child.localName) == (RDF, "li")
    ]


def _add(document: minidom.Document, bag: minidom.Element | None, values: Iterable[str]) -> None:
    assert bag is not None
    for value in values:
        item = document.createElementNS(RDF, f"{bag.prefix}:li")
        item.appendChild(document.createTextNode(value))
        bag.appendChild(item)
