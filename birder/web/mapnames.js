// @ts-check
// The names of the map's clusters: they stand over the points, move with them, and never over each other.

import { api } from "./api.js";
import { debounced, el, fill, iconButton, messageOf } from "./dom.js";
import { toast } from "./layers.js";
import { clusterOf, named, withRoom } from "./mapclusters.js";

/**
 * @import {Scatter} from "./scatter/scatter.js"
 * @import {MapCluster} from "./types.js"
 */

const KEY = "birder:map-names"; // "no" where they are switched off
const EDGE = 4; // CSS pixels between a name and the edge of the map
const RENAME = 3000; // milliseconds after a label in which more may come

export class MapNames {
  element = el("ul", { class: "map-names", "aria-label": "Clusters" });
  button = iconButton("tag", "Names of clusters", () => this.#toggle(), {
    class: "icon-button names",
  });
  loadSoon = debounced(() => this.load(), RENAME);
  /** @type {Scatter | null} */
  #plot = null;
  /** @type {Float32Array} */
  #points = new Float32Array(0);
  /** @type {MapCluster[]} */
  #clusters = [];
  /** @type {Uint8Array | null} */
  #clusterOf = null;
  /** @type {ArrayLike<number> | null} */
  #kept = null;
  /** @type {{mark: HTMLElement, cluster: MapCluster, width: number, height: number}[]} */
  #marks = [];

  constructor() {
    this.#show(localStorage.getItem(KEY) !== "no");
  }

  /**
   * Name the clusters of a map.
   * @param {Scatter} plot
   * @param {Float32Array} points x0, y0, x1, y1, ...
   */
  of(plot, points) {
    this.#plot = plot;
    this.#points = points;
    this.#clusters = [];
    this.#kept = null;
    this.#draw();
    this.load();
  }

  /**
   * The points in colour; null: all.
   * @param {ArrayLike<number> | null} kept
   */
  keep(kept) {
    this.#kept = kept;
    this.#draw();
  }

  async load() {
    const plot = this.#plot;
    if (!plot || this.element.hidden) return;
    try {
      const { clusters } = await api.mapClusters();
      if (plot !== this.#plot || clusters.some(({ point }) => 2 * point >= this.#points.length)) return;
      this.#clusters = clusters;
      this.#clusterOf = null;
      this.#draw();
    } catch (error) {
      toast(`The names of the clusters are not there: ${messageOf(error)}`, { error: true });
    }
  }

  /** Put each name where its cluster is now, if it has room there. */
  place() {
    const plot = this.#plot;
    if (!plot || this.element.hidden || !this.#marks.length) return;
    if (!this.#marks[0].width) {
      for (const each of this.#marks) [each.width, each.height] = [each.mark.offsetWidth, each.mark.offsetHeight];
    }
    const places = this.#marks.map(({ cluster, width, height }) => {
      const { x, y } = plot.position(cluster.point);
      const inside = x >= 0 && x <= plot.view.width; // then its name is not cut off at an edge either
      const middle = inside ? Math.max(Math.min(x, plot.view.width - width / 2 - EDGE), width / 2 + EDGE) : x;
      return { name: cluster.name, x: Math.round(middle), y: Math.round(y), width, height };
    });
    withRoom(places).forEach((free, index) => {
      const { mark } = this.#marks[index];
      const { x, y } = places[index];
      mark.classList.toggle("here", free);
      if (free) mark.style.transform = `translate(${x}px, ${y}px) translate(-50%, -50%)`;
    });
  }

  #draw() {
    if (this.#kept && this.#clusters.length) this.#clusterOf ??= clusterOf(this.#points, this.#clusters);
    const of = this.#clusterOf ?? new Uint8Array(this.#points.length / 2);
    this.#marks = named(this.#clusters, of, this.#kept).map((cluster) => ({
      mark: el("li", {}, cluster.name),
      cluster,
      width: 0,
      height: 0,
    }));
    fill(
      this.element,
      this.#marks.map(({ mark }) => mark),
    );
    this.place();
  }

  #toggle() {
    const on = Boolean(this.element.hidden);
    if (on) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, "no");
    this.#show(on);
    this.load();
  }

  /** @param {boolean} on */
  #show(on) {
    this.element.hidden = !on;
    this.button.setAttribute("aria-pressed", String(on));
  }
}
