// @ts-check
// Where a folded gallery takes its tiles from: one a stack, which is the first of its images and has the others with it.

import { api } from "./api.js";
import { stackAt, startsOf, TextList } from "./idlist.js";
import { Pages } from "./sources.js";

/**
 * @import {Ids} from "./idlist.js"
 * @import {Photo, Source, StackAnswer} from "./types.js"
 */

/**
 * The ids of all images of all stacks, and where each stack begins among them, behind the last where it ends.
 * @typedef {object} AllStacks
 * @property {Ids} ids
 * @property {Uint32Array} starts
 */

/** @typedef {{stacks: StackAnswer[], total: number, images: number}} Part some stacks, how many there are, and images */

const GIVEN = 50; // images that a stack has with it, as the server gives them

/** @implements {Source} */
export class Stacks extends Pages {
  /**
   * @param {(offset: number, limit: number, signal: AbortSignal) => Promise<Part>} ask
   * @param {() => Promise<AllStacks>} askAll
   * @param {string[]} columns whose values `ask` gives with the images
   */
  constructor(ask, askAll, columns = []) {
    const all = once(askAll);
    super(
      async (offset, limit, signal) => {
        const { stacks, total, images } = await ask(offset, limit, signal);
        return { photos: stacks.map(tileOf), total, images };
      },
      async () => (await all()).ids,
      columns,
    );
    this.all = all;
  }

  *known() {
    for (const photo of super.known()) yield* photo.stack?.photos ?? [photo];
  }

  /** The ids of all images of the stacks from one to another. */
  async ids(first = 0, last = Infinity) {
    const end = Math.min(last, this.total - 1);
    /** @type {string[]} */
    const found = [];
    for (let index = first; index <= end; index++) {
      const stack = this.at(index)?.stack;
      if (!stack || stack.photos.length < stack.count) {
        const { ids, starts } = await this.all();
        return ids.slice(starts[first], starts[Math.min(end + 1, starts.length - 1)]);
      }
      for (const photo of stack.photos) found.push(photo.id);
    }
    return found;
  }

  /**
   * The stack that has an image; -1 if none has.
   * @param {string} id
   */
  async placeOf(id) {
    const { ids, starts } = await this.all();
    const index = ids.indexOf(id);
    return index < 0 ? -1 : stackAt(starts, index);
  }
}

/**
 * The same answer each time, which is asked for once; again if that fails.
 * @template T
 * @param {() => Promise<T>} ask
 */
function once(ask) {
  /** @type {Promise<T> | null} */
  let answer = null;
  return () => {
    answer ??= ask().catch((error) => {
      answer = null;
      throw error;
    });
    return answer;
  };
}

/**
 * The first of some images, which has them all with it.
 * @param {StackAnswer} stack
 * @returns {Photo}
 */
function tileOf(stack) {
  const [first] = stack.photos;
  first.stack = stack;
  return first;
}

/**
 * Those of all images that are wanted, in their stacks.
 * @param {AllStacks} all
 * @param {(id: string) => boolean} wanted
 * @returns {AllStacks}
 */
export function among({ ids, starts }, wanted) {
  /** @type {string[]} */
  const kept = [];
  const begin = [0];
  const every = ids.slice();
  for (let stack = 0; stack + 1 < starts.length; stack++) {
    const before = kept.length;
    for (let at = starts[stack]; at < starts[stack + 1]; at++) if (wanted(every[at])) kept.push(every[at]);
    if (kept.length > before) begin.push(kept.length);
  }
  return { ids: new TextList(kept), starts: Uint32Array.from(begin) };
}

/**
 * The images that match a filter, in an order, folded.
 * @param {string | undefined} where
 * @param {string} order
 * @param {string[]} columns whose values come with them
 */
export const matchingStacks = (where, order, columns) =>
  new Stacks(
    (offset, limit, signal) => api.stacks({ where, order, offset, limit, columns }, signal),
    () => api.allStacks({ where, order }),
    columns,
  );

/**
 * Stacks by the ids of their images.
 * @param {AllStacks} all
 * @param {string[]} columns whose values come with them
 */
export function stacksByIds(all, columns) {
  const { ids, starts } = all;
  const total = starts.length - 1;
  return new Stacks(
    async (offset, limit, signal) => {
      const numbers = Array.from({ length: Math.min(limit, total - offset) }, (_, at) => offset + at);
      const firsts = numbers.map((at) => ids.slice(starts[at], Math.min(starts[at + 1], starts[at] + GIVEN)));
      const photos = new Map((await api.photosOf(firsts.flat(), signal, columns)).map((photo) => [photo.id, photo]));
      const stacks = firsts.map((some, at) => ({
        count: starts[offset + at + 1] - starts[offset + at],
        photos: some.map((id) => photos.get(id)).filter((photo) => photo !== undefined),
      }));
      return { stacks: stacks.filter(({ photos }) => photos.length), total, images: ids.length };
    },
    async () => all,
    columns,
  );
}

/**
 * Images that were found, folded: a stack stands where the first of its images was. What is predicted of them, and their
 * sequences, are asked for.
 * @param {Photo[]} hits
 * @param {string[]} columns whose values come with them
 * @param {AbortSignal} [signal]
 */
export async function foldedHits(hits, columns, signal) {
  const ids = hits.map(({ id }) => id);
  const similarity = new Map(hits.map((hit) => [hit.id, hit.similarity]));
  /** @type {Map<string, Photo[]>} */
  const stacks = new Map();
  for (const photo of await api.photosOf(ids, signal, columns)) {
    const key = photo.sequence ? `sequence ${photo.sequence}` : photo.id;
    const stack = stacks.get(key) ?? [];
    stack.push({ ...photo, similarity: similarity.get(photo.id) });
    stacks.set(key, stack);
  }
  const all = [...stacks.values()].map((photos) => ({ count: photos.length, photos }));
  const starts = startsOf(all.map(({ count }) => count));
  const every = new TextList(all.flatMap(({ photos }) => photos.map(({ id }) => id)));
  return new Stacks(
    async (offset, limit) => ({
      stacks: all.slice(offset, offset + limit),
      total: all.length,
      images: every.length,
    }),
    async () => ({ ids: every, starts }),
    columns,
  );
}
