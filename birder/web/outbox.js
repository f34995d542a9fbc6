// @ts-check
// Labels on their way: given on the page, not yet written by the server. They are gathered, sent one request after the
// other, sent again while the server cannot be reached, and kept in the browser until they are written. A page that is
// left hands them over, and the next one sends what the one before did not see written. Every change has an id of its
// own, so that the server writes it once, however often it comes.

import { statusOf } from "./api.js";
import { newId } from "./ids.js";

/** @import {Change, LabelBody, Timer} from "./types.js" */

/** @typedef {Change & {gathered: boolean}} Waiting */
/** @typedef {{resolve: (changed: number | null) => void, reject: (error: unknown) => void}} Answer */

const GATHER = 500; // milliseconds in which labels are gathered into one request
const IDS_A_REQUEST = 100_000;
const BEACON = 60_000; // bytes; browsers take 64 KiB as a page is left
const PAUSES = [1, 2, 4, 8, 15]; // seconds until a failed request is sent again
const KEY = "birder:unwritten:";
const LATER = [401, 408, 409, 425, 429]; // of a server that was busy or locked, and did not refuse the request

export class Outbox {
  /** @type {Waiting[]} the first to be sent first; those under way stand in front */
  #waiting = [];
  /** @type {Waiting[]} */
  #underway = [];
  /** @type {Set<string>} that this page has part in */
  #acts = new Set();
  /** @type {Map<string, Answer>} by change */
  #answers = new Map();
  /** @type {Timer | undefined} */
  #timer;
  #failures = 0;
  #hurry = false; // somebody waits for what is in the queue
  #oneByOne = false; // a refused request is sent again one change at a time: the others are not to blame
  #key;
  #prefix;

  /** Why the last request failed, while it is tried again; empty otherwise. */
  trouble = "";

  /**
   * @param {object} options
   * @param {(body: LabelBody) => Promise<{changes: {change: string, changed: number}[]}>} options.send
   * @param {(body: LabelBody) => boolean} options.handOver gives a request to the browser, which may not take it
   * @param {Storage} options.storage where changes are kept until they are written
   * @param {string} options.path of the collection
   * @param {() => void} options.onchange called when something is waiting, or is no longer
   */
  constructor({ send, handOver, storage, path, onchange }) {
    this.#prefix = `${KEY}${path}:`;
    this.#key = this.#prefix + newId();
    this.sendRequest = send;
    this.handOverRequest = handOver;
    this.storage = storage;
    this.onchange = onchange;
  }

  /** How many labels are not written yet. */
  get unwritten() {
    return labelsIn(this.#waiting);
  }

  /**
   * Whether an act is known here: this page has part in it.
   * @param {string} act
   */
  isMine(act) {
    return this.#acts.has(act);
  }

  /** @param {string} act */
  own(act) {
    this.#acts.add(act);
  }

  /**
   * Send changes; `gather` waits for more to come. Settles when they are written, with how many images each changed (null
   * for one that was taken back before), and fails if the server refuses them.
   * @param {Change[]} changes
   * @returns {Promise<(number | null)[]>}
   */
  post(changes, { gather = false } = {}) {
    /** @type {Promise<number | null>[]} */
    const answers = changes.map(
      (each) => new Promise((resolve, reject) => this.#answers.set(each.change, { resolve, reject })),
    );
    for (const { act } of changes) this.own(act);
    this.#waiting.push(...changes.map((each) => ({ ...each, gathered: gather })));
    this.#changed();
    this.#hurry ||= !gather;
    if (!gather) this.sendNow();
    else if (!this.#underway.length && !this.#timer) this.#timer = setTimeout(() => this.#send(), GATHER);
    return Promise.all(answers);
  }

  /** The act for a change that is sent with those gathered so far, which are undone together. */
  gatheringAct() {
    const waiting = this.#waiting.slice(this.#underway.length);
    return waiting.findLast((each) => each.gathered)?.act ?? newId();
  }

  /**
   * Take a change back that has not been sent; whether it could be.
   * @param {string} change
   */
  retract(change) {
    const at = this.#waiting.findIndex((each) => each.change === change);
    if (at < this.#underway.length) return false;
    this.#waiting.splice(at, 1);
    this.#changed();
    this.#answerTo(change)?.resolve(null);
    return true;
  }

  /** Take back all that has not been sent. */
  discard() {
    for (const { change } of this.#waiting.slice(this.#underway.length)) this.retract(change);
    this.trouble = "";
    this.onchange();
  }

  sendNow() {
    clearTimeout(this.#timer);
    this.#send();
  }

  async #send() {
    this.#timer = undefined;
    if (this.#underway.length || !this.#waiting.length) return;
    this.#hurry = false;
    this.#underway = this.#oneByOne
      ? this.#waiting.slice(0, 1)
      : together(this.#waiting, IDS_A_REQUEST, (each) => each.ids.length);
    try {
      const answer = await this.sendRequest(bodyOf(this.#underway));
      const changed = new Map(answer.changes.map((each) => [each.change, each.changed]));
      for (const { change } of this.#finished()) this.#answerTo(change)?.resolve(changed.get(change) ?? 0);
      this.#failures = 0;
      this.trouble = "";
      this.#oneByOne = false;
    } catch (error) {
      if (mayPass(statusOf(error))) {
        this.#underway = [];
        this.trouble = error instanceof Error ? error.message : String(error);
        const pause = PAUSES[Math.min(this.#failures++, PAUSES.length - 1)];
        this.#timer = setTimeout(() => this.#send(), 1000 * pause);
      } else if (this.#underway.length > 1) {
        this.#underway = [];
        this.#oneByOne = true;
      } else for (const { change } of this.#finished()) this.#answerTo(change)?.reject(error);
    }
    this.onchange();
    if (this.#waiting.length && !this.#timer)
      this.#timer = setTimeout(() => this.#send(), this.#hurry || this.#oneByOne ? 0 : GATHER);
  }

  /** Take what was under way out, as it has its answer, and give it. */
  #finished() {
    const done = this.#underway;
    this.#underway = [];
    this.#waiting.splice(0, done.length);
    this.#keep();
    return done;
  }

  /** @param {string} change */
  #answerTo(change) {
    const answer = this.#answers.get(change);
    this.#answers.delete(change);
    return answer;
  }

  #changed() {
    this.#keep();
    this.onchange();
  }

  #keep() {
    try {
      if (this.#waiting.length) this.storage.setItem(this.#key, JSON.stringify(this.#waiting));
      else this.storage.removeItem(this.#key);
    } catch {
      // The browser's storage is full: leaving the page before they are written asks first.
    }
  }

  /** As the page is left: what has no answer yet is handed to the browser, which sends it without the page. */
  leave() {
    let room = BEACON;
    for (let rest = this.#waiting; rest.length && room > 0; ) {
      const some = together(rest, room, (each) => JSON.stringify(each).length);
      const size = JSON.stringify(bodyOf(some)).length;
      if (size > room || !this.handOverRequest(bodyOf(some))) return; // the next page sends them
      room -= size;
      rest = rest.slice(some.length);
    }
  }

  /**
   * Send what pages that were left did not see written; what that was, and a promise of its being written. Null if
   * nothing is left over.
   */
  sendLeftOvers() {
    const found = Object.keys(this.storage).filter((each) => each.startsWith(this.#prefix));
    const changes = found.flatMap((each) => readChanges(this.storage.getItem(each) ?? ""));
    if (!changes.length) return null;
    const written = this.post(changes);
    for (const each of found) this.storage.removeItem(each);
    this.#keep();
    return { changes, written };
  }
}

/**
 * Whether a request may go well another time.
 * @param {number} status 0 if there was no answer
 */
const mayPass = (status) => status === 0 || LATER.includes(status) || status >= 500;

/**
 * The first changes that may stand in one request: of one act and person, and together not too large.
 * @template {Change} C
 * @param {C[]} changes
 * @param {number} most
 * @param {(change: C) => number} size
 */
function together(changes, most, size) {
  const { act, by } = changes[0];
  let sum = 0;
  const end = changes.findIndex((each) => {
    sum += size(each);
    return sum > most || each.act !== act || each.by !== by;
  });
  return end < 0 ? [...changes] : changes.slice(0, Math.max(1, end));
}

/**
 * @param {Change[]} changes
 * @returns {LabelBody}
 */
const bodyOf = (changes) => ({
  act: changes[0].act,
  ...(changes[0].by ? { by: changes[0].by } : {}),
  changes: changes.map(({ change, column, ids, value }) => ({ change, column, ids, value })),
});

/**
 * @param {string} json
 * @returns {Change[]}
 */
function readChanges(json) {
  try {
    /** @type {Change[]} */
    const changes = JSON.parse(json);
    return changes.filter(({ change, column, ids }) => change && column && Array.isArray(ids));
  } catch {
    return [];
  }
}

/**
 * How many labels there are in changes: one for each image.
 * @param {Change[]} changes
 */
export const labelsIn = (changes) => changes.reduce((sum, each) => sum + each.ids.length, 0);
