"""Frames of videos on the page: the clip plays from the frame's time; where it cannot, the file is offered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

import birder
from tests.factory import collection_of_columns
from tests.server import live
from tests.server.browsing import audit, expect, in_browser, opened, tile, total
from tests.sources.videos import grey_of, write_video

pytestmark = in_browser

FRAMES = (0, 1, 2.5, 10)
PLAYED = {"a.mp4": "libx264", "b.mov": "libx264", "c.mkv": "libvpx-vp9"}
NOT_PLAYED = {"d.avi": "libx264", "e.mp4": "mpeg4"}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    rows: dict[str, dict[str, float]] = {}
    for name, codec in (PLAYED | NOT_PLAYED).items():
        uri = write_video(folder / name, 300, codec=codec, size=(320, 240)).as_uri()
        rows |= {f"{uri}#t=npt:{seconds}": {"video_seconds": float(seconds)} for seconds in FRAMES}
    box = {"video_seconds": 1.0}
    rows[f"{(folder / 'a.mp4').as_uri()}#t=npt:1&xywh=percent:0,0,25,25"] = box
    collection_of_columns(folder / "c.birder", rows, {"video_seconds": pa.float64()})
    return folder / "c.birder"


@pytest.fixture(scope="module")
def client(videos: Path) -> Iterator[httpx.Client]:
    with live.serving(videos) as client:
        yield client


@pytest.fixture
def page(browser: Any, client: httpx.Client) -> Iterator[Any]:
    for page in opened(browser, str(client.base_url).removesuffix("/api/v1/")):
        page.uris = [client.get(f"photos/{id_}").json()["uri"] for id_ in client.get("ids").json()["ids"]]
        total(page)
        yield page


def open_frame(page: Any, end: str) -> None:
    tile(page, next(n for n, uri in enumerate(page.uris) if uri.endswith(end))).dblclick()


def playing(page: Any) -> dict[str, Any]:
    """Wait until the clip plays; where it is, its width, and the grey that it shows."""
    found: dict[str, Any] = page.evaluate("""async () => {
        const video = document.querySelector('video');
        for (let n = 0; n < 200 && (video.paused || video.readyState < 3); n++)
            await new Promise(done => setTimeout(done, 50));
        const canvas = document.createElement('canvas');
        [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
        const context = canvas.getContext('2d');
        context.drawImage(video, 0, 0);
        const grey = context.getImageData(300, 200, 1, 1).data[0];
        return {time: video.currentTime, width: video.videoWidth, paused: video.paused, grey};
    }""")
    assert not found["paused"]
    return found


def test_the_clip_plays_from_the_frames_time(page: Any) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for name in PLAYED:
        asked.clear()
        check_clip(page, name, asked)
        page.keyboard.press("Escape")
        expect(page.locator(".photo")).to_have_count(0)


def check_clip(page: Any, name: str, asked: list[str]) -> None:
    open_frame(page, f"{name}#t=npt:2.5")
    video = page.locator(".stage video")
    expect(page.locator(".photo-title")).to_have_text(f"{name} at 0:02.5")
    expect(page.locator(".clip-note")).to_contain_text(f"A frame of {name} at 0:02.5.")
    assert video.evaluate("each => [each.currentTime, each.preload, each.controls, each.paused]") == [
        2.5, "none", True, True
    ]  # fmt: skip
    poster = video.get_attribute("poster")
    assert page.evaluate("async url => (await fetch(url)).headers.get('content-type')", poster) == "image/jpeg"
    assert not any(url.endswith("/video") for url in asked)  # nothing is loaded before it is played
    page.keyboard.press("p")
    now = playing(page)
    assert 2.5 <= now["time"] < 6 and now["width"] == 320
    shown = [grey_of(int(now["time"] * 25) + n) for n in range(-4, 4)]
    assert min(abs(now["grey"] - grey) for grey in shown) < 12
    page.keyboard.press("p")
    expect(video).to_have_js_property("paused", True)
    page.keyboard.press("ArrowRight")
    expect(page.locator(".photo-title")).to_have_text(f"{name} at 0:10")
    expect(video).to_have_js_property("currentTime", 10)
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".photo-title")).to_have_text(f"{name} at 0:02.5")


def test_the_player_is_reached_by_keyboard_and_has_keys_of_its_own(page: Any) -> None:
    open_frame(page, "a.mp4#t=npt:1")
    video = page.locator(".stage video")
    expect(video).to_have_js_property("currentTime", 1)
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(400)  # colours fade
        assert audit(page) == []
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "VIDEO":
            break
    else:
        raise AssertionError("Tab does not reach the player")
    page.keyboard.press("Space")
    playing(page)
    expect(page.get_by_role("button", name="Selected", exact=True)).to_be_visible()  # Space was the player's
    page.keyboard.press("Space")
    expect(video).to_have_js_property("paused", True)
    before = video.evaluate("each => each.currentTime")
    page.keyboard.press("ArrowRight")
    for _ in range(40):
        if video.evaluate("each => each.currentTime") > before:
            break
        page.wait_for_timeout(100)
    assert video.evaluate("each => each.currentTime") > before
    expect(page.locator(".photo-title")).to_have_text("a.mp4 at 0:01")
    page.keyboard.press("Escape")
    expect(page.locator(".photo")).to_have_count(0)


def test_a_box_is_shown_alone_if_that_is_asked_for_and_its_video_whole(page: Any) -> None:
    open_frame(page, "xywh=percent:0,0,25,25")
    video = page.locator(".stage video")
    expect(video).to_be_visible()
    expect(video).to_have_attribute("poster", re.compile("whole=true"))
    page.get_by_role("button", name="Only the cut-out").click()
    expect(page.locator(".stage img.loaded")).to_have_css("width", "280px")  # 80 pixels, 3.5 times
    expect(video).to_have_count(0)
    page.locator(".photo").get_by_role("button", name="Next image").focus()
    page.keyboard.press("p")
    assert playing(page)["width"] == 320
    assert video.evaluate("each => each.offsetWidth") > 500


def test_what_the_browser_cannot_play_is_said_and_offered(page: Any) -> None:
    for name, why in (("d.avi", "Browsers do not play AVI"), ("e.mp4", "cannot play it")):
        open_frame(page, f"{name}#t=npt:1")
        expect(page.locator(".photo-title")).to_have_text(f"{name} at 0:01")
        expect(page.locator(".clip-note")).to_contain_text("A frame of")
        page.keyboard.press("p")
        expect(page.locator(".clip-note")).to_contain_text(why)
        expect(page.locator(".stage img.loaded")).to_be_visible()
        assert page.locator("video").count() == 0
        assert audit(page) == []
        with page.expect_download() as download:
            page.get_by_role("link", name="Download the video").click()
        assert download.value.suggested_filename == name
        assert Path(download.value.path()).stat().st_size > 1000
        page.keyboard.press("Escape")
        expect(page.locator(".photo")).to_have_count(0)


def test_a_video_that_is_gone_is_said(browser: Any, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "a.mp4", 100)
    collection_of_columns(tmp_path / "c.birder", {f"{clip.as_uri()}#t=npt:1": {}})
    with live.serving(tmp_path / "c.birder") as client:
        for page in opened(browser, str(client.base_url).removesuffix("/api/v1/"), expected="404 .Not Found"):
            tile(page, 0).dblclick()
            expect(page.locator(".stage video")).to_be_visible()
            clip.rename(tmp_path / "b.mp4")
            page.keyboard.press("p")
            expect(page.locator(".clip-note")).to_have_text("The video cannot be sent: the file no longer exists.")
            assert page.locator("video").count() == 0


def test_the_history_says_what_was_shifted_and_undoes_it(page: Any, videos: Path) -> None:
    collection = birder.open_collection(videos)
    before = collection.to_arrow(["id", "taken_at"]).sort_by("id")
    collection.shift_time("-2d3h", author="Ada")
    collection.label(collection.to_arrow(["id"], where="video_seconds = 1")["id"].to_pylist(), "fox", author="Ben")
    collection.shift_time("+1h", where="video_seconds > 2")
    page.get_by_role("button", name="History of labels and times").click()
    entries = page.locator(".history li")
    expect(entries).to_have_count(3)
    assert [re.split(", [0-9]", each)[0].replace("\n\n", "\n") for each in entries.all_inner_texts()] == [
        "Shifted 10 times by +1 h where video_seconds > 2\nwithout a name",
        "fox in label\nbefore: no value\nBen",
        "Shifted 21 times by −2 d 3 h\nAda",
    ]
    assert audit(page) == []
    for entry in (entries.nth(0), entries.nth(2)):
        entry.get_by_role("button", name="Undo").click()
        expect(entry).to_have_class("undone")
    expect(page.locator(".toast").last).to_contain_text("Undone: 21 images have the former time")
    assert birder.open_collection(videos).to_arrow(["id", "taken_at"]).sort_by("id") == before
