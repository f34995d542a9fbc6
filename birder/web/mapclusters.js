// @ts-check
// The clusters of the map: which point belongs to which, and which of their names are shown.

/** @import {MapCluster} from "./types.js" */

/**
 * @typedef {object} Place the box of a name, in CSS pixels
 * @property {string} name
 * @property {number} x of its middle
 * @property {number} y
 * @property {number} width
 * @property {number} height
 */

const TWICE = 240; // CSS pixels between two clusters with the same name, for both to show it
const FEW = 0.05; // of a cluster's points in colour, or of those in colour in it: below both, it has no name

/**
 * Which names have room, the first before the others.
 * @param {Place[]} places
 */
export function withRoom(places) {
  /** @type {Place[]} */
  const taken = [];
  return places.map((place) => {
    const free = taken.every(
      ({ name, x, y, width, height }) =>
        (2 * Math.abs(x - place.x) >= width + place.width || 2 * Math.abs(y - place.y) >= height + place.height) &&
        (name !== place.name || Math.hypot(x - place.x, y - place.y) >= TWICE),
    );
    if (free) taken.push(place);
    return free;
  });
}

/**
 * The cluster of each point: the one whose point is nearest.
 * @param {Float32Array} points x0, y0, x1, y1, ...
 * @param {MapCluster[]} clusters
 */
export function clusterOf(points, clusters) {
  const nearest = new Uint8Array(points.length / 2);
  const xs = clusters.map(({ point }) => points[2 * point]);
  const ys = clusters.map(({ point }) => points[2 * point + 1]);
  for (let i = 0; i < nearest.length; i++) {
    let least = Number.POSITIVE_INFINITY;
    for (let k = 0; k < xs.length; k++) {
      const distance = (points[2 * i] - xs[k]) ** 2 + (points[2 * i + 1] - ys[k]) ** 2;
      if (distance < least) {
        least = distance;
        nearest[i] = k;
      }
    }
  }
  return nearest;
}

/**
 * The clusters that have a name to show, those with the most points in colour first.
 * @param {MapCluster[]} clusters
 * @param {Uint8Array} of the cluster of each point
 * @param {ArrayLike<number> | null} kept the points in colour; null: all
 */
export function named(clusters, of, kept) {
  const counts = clusters.map(({ count }) => (kept ? 0 : count));
  if (kept) for (let i = 0; i < kept.length; i++) counts[of[kept[i]]]++;
  const all = kept?.length ?? of.length;
  return clusters
    .map((cluster, index) => ({ cluster, count: counts[index] }))
    .filter(({ cluster, count }) => cluster.name && count > 0 && count >= FEW * Math.min(cluster.count, all))
    .sort((a, b) => b.count - a.count)
    .map(({ cluster }) => cluster);
}
