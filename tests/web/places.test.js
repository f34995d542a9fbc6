// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { sqlOf } from "../../birder/web/filter.js";
import { isOn, toggled } from "../../birder/web/places/filters.js";
import { placed } from "../../birder/web/places/names.js";
import { coordinates, graticule, projected, scaleBar } from "../../birder/web/places/projection.js";

/** @import {Place} from "../../birder/web/types.js" */

/**
 * The great circle between two places, in km (haversine, a sphere as large as the earth).
 * @param {{latitude: number, longitude: number}} a
 * @param {{latitude: number, longitude: number}} b
 */
function kilometres(a, b) {
  const [p, q] = [a, b].map(({ latitude }) => (latitude * Math.PI) / 180);
  const half = ((b.longitude - a.longitude) * Math.PI) / 360;
  const h = Math.sin((q - p) / 2) ** 2 + Math.cos(p) * Math.cos(q) * Math.sin(half) ** 2;
  return 2 * 6378.2 * Math.asin(Math.sqrt(h));
}

test("distances on the plane are those on the earth, across 180 degrees as well", () => {
  for (const middle of [4.4, 179.99, -180, -60]) {
    const places = Array.from({ length: 12 }, (_, i) => ({
      latitude: -43 + 0.05 * Math.sin(i),
      longitude: ((((middle + 0.08 * Math.cos(2 * i) + 180) % 360) + 360) % 360) - 180,
    }));
    const plane = projected(places);
    for (let i = 0; i < 12; i++)
      for (let j = 0; j < i; j++) {
        const [dx, dy] = [plane.xy[2 * i] - plane.xy[2 * j], plane.xy[2 * i + 1] - plane.xy[2 * j + 1]];
        const told = Math.hypot(dx, dy) * plane.kilometres;
        assert.ok(Math.abs(told - kilometres(places[i], places[j])) < 0.02 + 0.004 * told, `${middle}: ${told}`);
      }
    assert.ok(Math.max(...plane.xy.map(Math.abs)) <= 1.000001);
    assert.ok(Math.abs(Math.max(...plane.extent) - 2) < 1e-9);
  }
  assert.deepEqual(projected([]).xy.length, 0);
  const one = projected([{ latitude: 90, longitude: 180 }]); // nothing is divided by a width of nothing
  assert.deepEqual([[...one.xy], one.extent, one.kilometres], [[0, 0], [2, 2], 0.5]);
});

test("the graticule has a handful of round lines, with the degrees that they are at", () => {
  const plane = projected([
    { latitude: 51, longitude: 179.5 },
    { latitude: 52, longitude: -179.5 },
  ]);
  const { parallels, meridians } = graticule(plane, { left: -1, right: 1, low: -1, high: 1 });
  assert.deepEqual(parallels.map(({ text }) => text).slice(0, 3), ["51° N", "51.2° N", "51.4° N"]);
  assert.deepEqual(
    meridians.map(({ text }) => text),
    ["179.5° E", "180°", "179.5° W"],
  );
  assert.ok(Math.abs(meridians[2].at - plane.xy[2]) < 1e-6);
  assert.equal(coordinates({ latitude: -3.25, longitude: 0 }), "3.25° S, 0°");
});

test("the scale is the longest round length that has room", () => {
  assert.deepEqual(scaleBar(10, 120), { pixels: 100, text: "10 km" });
  assert.deepEqual(scaleBar(0.05, 120), { pixels: 100, text: "2,000 km" });
  const short = scaleBar(500, 120);
  assert.ok(Math.abs(short.pixels - 100) < 1e-9);
  assert.equal(short.text, "200 m");
});

test("names stand beside their marks, and never over another mark, another name or the rim", () => {
  const marks = Array.from({ length: 70 }, (_, i) => ({
    x: (i * 7919) % 640,
    y: (i * 6007) % 420,
    radius: 3 + (i % 9),
  }));
  const names = marks.map((_, mark) => ({ mark, width: 30 + ((mark * 31) % 60) }));
  const found = placed(marks, names, { width: 640, height: 420 });
  assert.ok(found.length > 10, "no name has room");
  const boxes = found.map(({ mark, x, y }) => ({
    mark,
    left: x,
    right: x + names[mark].width,
    top: y - 7,
    low: y + 7,
  }));
  for (const [number, box] of boxes.entries()) {
    assert.ok(box.left >= 0 && box.right <= 640 && box.top >= 0 && box.low <= 420);
    for (const other of boxes.slice(0, number))
      assert.ok(box.left >= other.right || other.left >= box.right || box.top >= other.low || other.top >= box.low);
    for (const [mark, { x, y, radius }] of marks.entries()) {
      const [dx, dy] = [x - Math.max(box.left, Math.min(x, box.right)), y - Math.max(box.top, Math.min(y, box.low))];
      assert.ok(mark === box.mark || Math.hypot(dx, dy) >= radius, `${box.mark} over ${mark}`);
    }
  }
  assert.deepEqual(placed([{ x: 50, y: 50, radius: 5 }], [{ mark: 0, width: 20 }], { width: 100, height: 100 }), [
    { mark: 0, x: 59, y: 50 },
  ]);
});

/** @type {Place} */
const A = { latitude: 51, longitude: 4, count: 3, names: ["A1", "A2"], further: 0, exact: true, box: [51, 51, 4, 4] };
/** @type {Place} */
const B = { ...A, names: ["B"], latitude: 52 };
/** @type {Place} */
const C = { ...A, names: [], exact: false, box: [50.5, 50.75, -4.5, -4] };

test("a press on a place filters by its stations, beside others, and a second press no longer", () => {
  const night = { column: "night", values: [true] };
  const both = toggled(B, "station", toggled(A, "station", [night]));
  assert.deepEqual(both, [night, { column: "station", values: ["A1", "A2", "B"] }]);
  assert.deepEqual([isOn(A, "station", both), isOn(B, "station", both), isOn(C, "station", both)], [true, true, false]);
  assert.deepEqual(toggled(A, "station", both), [night, { column: "station", values: ["B"] }]);
  assert.deepEqual(toggled(B, "station", toggled(A, "station", both)), [night]);
  const none = [{ column: "station", values: ["B"], none: true }];
  assert.deepEqual(toggled(B, "station", none), [{ column: "station", values: [], none: true }]);
});

test("a place without stations of its own is a box of coordinates, in place of other places", () => {
  const box = toggled(C, "station", toggled(A, "station", []));
  assert.equal(
    box.map(sqlOf).join(" AND "),
    "`latitude` >= 50.5 AND `latitude` <= 50.75 AND `longitude` >= -4.5 AND `longitude` <= -4",
  );
  assert.equal(isOn(C, "station", box), true);
  assert.deepEqual(toggled(C, "station", box), []);
  assert.deepEqual(toggled(A, "station", box), [{ column: "station", values: ["A1", "A2"] }]);
});
