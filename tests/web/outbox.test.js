// @ts-check
import assert from "node:assert/strict";
import { webcrypto } from "node:crypto";
import { afterEach, beforeEach, test } from "node:test";
import { ApiError } from "../../birder/web/api.js";
import { Outbox } from "../../birder/web/outbox.js";

if (!globalThis.crypto) Object.assign(globalThis, { crypto: webcrypto }); // Node 18 has it elsewhere

/** @import {Change, LabelBody} from "../../birder/web/types.js" */

/** Storage as browsers have it: its keys are its properties. */
class MemoryStorage {
  /** @param {string} key */
  getItem(key) {
    return Object.hasOwn(this, key) ? Reflect.get(this, key) : null;
  }
  /**
   * @param {string} key
   * @param {string} value
   */
  setItem(key, value) {
    Reflect.set(this, key, value);
  }
  /** @param {string} key */
  removeItem(key) {
    Reflect.deleteProperty(this, key);
  }
}

/** @type {Storage} */
let storage;
/** @type {LabelBody[]} what the server was sent */
let sent;
/** @type {((body: LabelBody) => Error | undefined)} how the server fails, if it does */
let failure;

/** Timers that go off when the test says so (mocks of node:test differ between versions of Node). */
const clock = {
  now: 0,
  /** @type {{at: number, action: () => void}[]} */
  timers: [],
  /** @param {number} milliseconds */
  tick(milliseconds) {
    const until = this.now + milliseconds;
    for (;;) {
      const due = this.timers.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.now = due.at;
      this.timers.splice(this.timers.indexOf(due), 1);
      due.action();
    }
    this.now = until;
  },
};
const real = { setTimeout, clearTimeout };

beforeEach(() => {
  storage = /** @type {any} */ (new MemoryStorage());
  sent = [];
  failure = () => undefined;
  clock.timers = [];
  Object.assign(globalThis, {
    setTimeout: (/** @type {() => void} */ action, milliseconds = 0) => {
      const timer = { at: clock.now + milliseconds, action };
      clock.timers.push(timer);
      return timer;
    },
    clearTimeout: (/** @type {any} */ timer) => {
      clock.timers = clock.timers.filter((each) => each !== timer);
    },
  });
});

afterEach(() => {
  Object.assign(globalThis, real);
});

function newOutbox(path = "/photos.birder") {
  return new Outbox({
    send: async (body) => {
      const error = failure(body);
      if (error) throw error;
      sent.push(body);
      return { changes: body.changes.map(({ change, ids }) => ({ change, changed: ids.length })) };
    },
    handOver: (body) => {
      sent.push(body);
      return true;
    },
    storage,
    path,
    onchange: () => {},
  });
}

/**
 * @param {string} change
 * @param {Partial<Change>} more
 * @returns {Change}
 */
const label = (change, more = {}) => ({
  change,
  act: "act",
  by: null,
  column: "label",
  ids: ["a"],
  value: "owl",
  ...more,
});

/** Let promises settle. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

test("a label is sent at once, and its answer says how many images changed", async () => {
  const outbox = newOutbox();
  const answers = await outbox.post([label("1", { ids: ["a", "b"], by: "Ana" })]);
  assert.deepEqual(answers, [2]);
  assert.deepEqual(sent, [
    { act: "act", by: "Ana", changes: [{ change: "1", column: "label", ids: ["a", "b"], value: "owl" }] },
  ]);
  assert.equal(outbox.unwritten, 0);
  assert.ok(outbox.isMine("act"));
});

test("gathered labels are sent together after half a second, as one act", async () => {
  const outbox = newOutbox();
  const act = outbox.gatheringAct();
  const first = outbox.post([label("1", { act })], { gather: true });
  assert.equal(outbox.gatheringAct(), act);
  const second = outbox.post([label("2", { act })], { gather: true });
  clock.tick(499);
  assert.equal(sent.length, 0);
  assert.equal(outbox.unwritten, 2);
  clock.tick(1);
  assert.deepEqual(await Promise.all([first, second]), [[1], [1]]);
  assert.deepEqual(
    sent.map(({ changes }) => changes.length),
    [2],
  );
  assert.notEqual(outbox.gatheringAct(), act);
});

test("labels of another act or person go into a request of their own, in their order", async () => {
  const outbox = newOutbox();
  const all = [
    outbox.post([label("1", { act: "x" })], { gather: true }),
    outbox.post([label("2", { act: "y" })], { gather: true }),
    outbox.post([label("3", { act: "y", by: "Ana" })], { gather: true }),
  ];
  for (let requests = 0; requests < 3; requests++) {
    clock.tick(500);
    await settled();
  }
  await Promise.all(all);
  assert.deepEqual(
    sent.map(({ act, by }) => [act, by]),
    [
      ["x", undefined],
      ["y", undefined],
      ["y", "Ana"],
    ],
  );
});

test("while the server is away labels are kept and sent again, more and more rarely, until it is back", async () => {
  const outbox = newOutbox();
  failure = () => new ApiError("The server does not answer.", 0);
  const answer = outbox.post([label("1")]);
  let attempts = 0;
  const send = outbox.sendRequest;
  outbox.sendRequest = (body) => {
    attempts++;
    return send(body);
  };
  await settled();
  assert.equal(outbox.trouble, "The server does not answer.");
  assert.equal(Object.keys(storage).length, 1);
  for (const seconds of [1, 2, 4, 8, 15, 15]) {
    clock.tick(1000 * seconds - 1);
    await settled();
    const before = attempts;
    clock.tick(1);
    await settled();
    assert.equal(attempts, before + 1);
  }
  failure = () => undefined;
  clock.tick(15_000);
  assert.deepEqual(await answer, [1]);
  assert.equal(outbox.trouble, "");
  assert.equal(Object.keys(storage).length, 0);
});

test("a server that is busy, locked or broken is tried again; one that refuses is not", async () => {
  for (const status of [401, 408, 409, 425, 429, 500, 503]) {
    const outbox = newOutbox();
    failure = () => new ApiError("later", status);
    outbox.post([label("1")]);
    await settled();
    assert.equal(outbox.unwritten, 1, String(status));
    outbox.discard();
  }
  for (const status of [400, 403, 404, 413, 422]) {
    const outbox = newOutbox();
    failure = () => new ApiError("no", status);
    await assert.rejects(outbox.post([label("1")]), /no/);
    assert.equal(outbox.unwritten, 0, String(status));
  }
});

test("of labels that are refused together, only the one to blame is lost", async () => {
  const outbox = newOutbox();
  failure = ({ changes }) => (changes.some(({ value }) => value === "bad") ? new ApiError("refused", 422) : undefined);
  const good = outbox.post([label("1")], { gather: true });
  const bad = outbox.post([label("2", { value: "bad" })], { gather: true });
  const also = outbox.post([label("3")], { gather: true });
  const failed = assert.rejects(bad, /refused/);
  for (let requests = 0; requests < 6; requests++) {
    clock.tick(500);
    await settled();
  }
  await failed;
  assert.deepEqual(await Promise.all([good, also]), [[1], [1]]);
  assert.equal(outbox.unwritten, 0);
});

test("a label that was not sent yet can be taken back; one under way cannot", async () => {
  const outbox = newOutbox();
  const waiting = outbox.post([label("1")], { gather: true });
  assert.equal(outbox.retract("1"), true);
  assert.deepEqual(await waiting, [null]);
  const underway = outbox.post([label("2")]);
  assert.equal(outbox.retract("2"), false);
  assert.deepEqual(await underway, [1]);
  assert.equal(outbox.retract("2"), false);
  assert.deepEqual(
    sent.flatMap(({ changes }) => changes.map(({ change }) => change)),
    ["2"],
  );
});

test("what a page that was left did not see written is sent by the next one, and by no other collection's", async () => {
  const before = newOutbox();
  failure = () => new ApiError("away", 0);
  before.post([label("1"), label("2", { ids: ["b", "c"] })]);
  await settled();
  failure = () => undefined;
  assert.equal(newOutbox("/others.birder").sendLeftOvers(), null);
  const left = newOutbox().sendLeftOvers();
  assert.deepEqual(
    left?.changes.map(({ change }) => change),
    ["1", "2"],
  );
  assert.deepEqual(await left?.written, [1, 2]);
  assert.equal(newOutbox().sendLeftOvers(), null);
});

test("invalid data in the browser's storage is not taken for labels", () => {
  storage.setItem("birder:unwritten:/photos.birder:x", "{not json");
  storage.setItem("birder:unwritten:/photos.birder:y", '[{"change":"1"},{"column":"label","ids":"a"}]');
  assert.equal(newOutbox().sendLeftOvers(), null);
});

test("a request takes up to 100,000 images", async () => {
  const outbox = newOutbox();
  const ids = Array.from({ length: 40_000 }, (_, index) => String(index));
  const answer = outbox.post(["1", "2", "3"].map((change) => label(change, { ids })));
  await settled();
  clock.tick(500);
  assert.deepEqual(await answer, [40_000, 40_000, 40_000]);
  assert.deepEqual(
    sent.map(({ changes }) => changes.length),
    [2, 1],
  );
});

test("when the page is closed, as much is handed over as the browser takes", async () => {
  const outbox = newOutbox();
  const ids = Array.from({ length: 500 }, (_, index) => `${index}`.padStart(36, "0"));
  failure = () => new ApiError("away", 0);
  outbox.post(["1", "2", "3", "4", "5"].map((change) => label(change, { ids, act: change })));
  await settled();
  outbox.leave();
  const handedOver = sent.reduce((sum, body) => sum + JSON.stringify(body).length, 0);
  assert.ok(sent.length === 3 && handedOver <= 60_000, `${sent.length} requests, ${handedOver} bytes`);
  outbox.discard();
});

test("of one act, too, only as much is handed over as the browser takes", async () => {
  const outbox = newOutbox();
  const ids = Array.from({ length: 400 }, (_, index) => `${index}`.padStart(36, "0"));
  failure = () => new ApiError("away", 0);
  outbox.post(["1", "2", "3", "4", "5"].map((change) => label(change, { ids })));
  await settled();
  outbox.leave();
  assert.equal(sent[0].changes.length, 3);
  assert.ok(sent.reduce((sum, body) => sum + JSON.stringify(body).length, 0) <= 60_000);
  outbox.discard();
});
