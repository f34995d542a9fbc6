// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { clusterOf, named, withRoom } from "../../birder/web/mapclusters.js";

/** Numbers from 0 to 1, the same each time. */
function random(seed = 1) {
  let now = seed;
  return () => {
    now = (now * 48271) % 2147483647;
    return now / 2147483647;
  };
}

/** @param {import("../../birder/web/mapclusters.js").Place} place */
const edges = ({ x, y, width, height }) => [x - width / 2, x + width / 2, y - height / 2, y + height / 2];

test("names that are shown never meet, and one is left out only for those before it", () => {
  const next = random();
  for (let round = 0; round < 200; round++) {
    const places = Array.from({ length: 40 }, (_, index) => ({
      name: `cluster ${index % 30}`,
      x: next() * 900,
      y: next() * 600,
      width: 30 + next() * 190,
      height: 20,
    }));
    const shown = withRoom(places);
    assert.equal(shown[0], true);
    /** @param {number} a @param {number} b */
    const meet = (a, b) => {
      const [left, right, top, bottom] = edges(places[a]);
      const [l, r, t, below] = edges(places[b]);
      const same = places[a].name === places[b].name;
      return (
        (left < r && l < right && top < below && t < bottom) ||
        (same && Math.hypot(places[a].x - places[b].x, places[a].y - places[b].y) < 240)
      );
    };
    for (let a = 0; a < places.length; a++) {
      const before = places.map((_, b) => b).filter((b) => b < a && shown[b]);
      assert.equal(shown[a], !before.some((b) => meet(a, b)));
    }
  }
});

test("a point belongs to the cluster whose point is nearest", () => {
  const points = Float32Array.from({ length: 400 }, random(7));
  const clusters = [3, 77, 150].map((point) => ({ point, name: `${point}`, count: 0 }));
  const of = clusterOf(points, clusters);
  for (let i = 0; i < of.length; i++) {
    const distances = clusters.map(({ point }) =>
      Math.hypot(points[2 * i] - points[2 * point], points[2 * i + 1] - points[2 * point + 1]),
    );
    assert.equal(distances[of[i]], Math.min(...distances));
  }
  assert.deepEqual(
    [3, 77, 150].map((point) => of[point]),
    [0, 1, 2],
  );
});

test("names follow the points in colour: the most first, none for a cluster with hardly any", () => {
  const of = Uint8Array.from([...Array(100).fill(0), ...Array(60).fill(1), ...Array(40).fill(2)]);
  const clusters = [
    { point: 0, name: "fox", count: 100 },
    { point: 100, name: "owl", count: 60 },
    { point: 160, name: "", count: 40 },
  ];
  /** @param {number[] | null} kept */
  const shown = (kept) => named(clusters, of, kept).map(({ name }) => name);
  const every = Array.from(of.keys());
  assert.deepEqual(shown(null), ["fox", "owl"]);
  assert.deepEqual(shown(every), ["fox", "owl"]);
  assert.deepEqual(shown([]), []);
  assert.deepEqual(shown([...every.slice(0, 10), ...every.slice(100, 150)]), ["owl", "fox"]);
  assert.deepEqual(shown([0, ...every.slice(100, 150)]), ["owl"]); // 1 of 100, and 1 of 51
  assert.deepEqual(shown([0, 101]), ["fox", "owl"]); // half of those in colour each
  assert.deepEqual(shown(every.slice(160)), []); // a cluster in which nothing is telling
});
