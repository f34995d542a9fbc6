// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { bytes, clock, count, duration, fileName, images, percent, quoted, time } from "../../birder/web/format.js";

test("numbers are grouped and have their unit", () => {
  assert.equal(count(1234567), "1,234,567");
  assert.deepEqual([images(0), images(1), images(1000)], ["0 images", "1 image", "1,000 images"]);
  assert.deepEqual(
    [bytes(999), bytes(1000), bytes(2_048_576), bytes(3e9)],
    ["999 bytes", "1.0 kB", "2.0 MB", "3.0 GB"],
  );
  assert.deepEqual([percent(0), percent(0.042), percent(0.5), percent(1)], ["0 %", "4.2 %", "50 %", "100 %"]);
});

test("times have seconds where there are any, and no zone, as images have none", () => {
  assert.equal(time("2024-05-01T13:45:59.123456Z"), "2024-05-01 13:45:59");
  assert.equal(time("2024-05-01T13:45:00+02:00"), "2024-05-01 13:45");
  assert.equal(time("2024-05-01T13:45"), "2024-05-01 13:45");
  assert.equal(time("2024-05-01"), "2024-05-01");
});

test("paths are quoted as a shell needs it", () => {
  assert.equal(quoted("~/photos.birder"), "~/photos.birder");
  assert.equal(quoted("my photos.birder"), "'my photos.birder'");
  assert.equal(quoted("it's; rm -rf $HOME"), "'it'\\''s; rm -rf $HOME'");
  assert.equal(fileName("a/b/c.jpg"), "c.jpg");
});

test("times in a video are minutes and seconds", () => {
  assert.deepEqual([0, 12, 12.5, 59.999, 60, 3725.25].map(clock), [
    "0:00",
    "0:12",
    "0:12.5",
    "0:59.999",
    "1:00",
    "1:02:05.25",
  ]);
});

test("shifts of times are told in the largest units", () => {
  assert.deepEqual([3600, -183_600, 90, 0.5, 86_400 * 1000, 3600.25, -1e-6].map(duration), [
    "+1 h",
    "− 2 d 3 h".replace(" ", ""),
    "+1 min 30 s",
    "+0.5 s",
    "+1,000 d",
    "+1 h 0.25 s",
    "−0.000001 s",
  ]);
});
