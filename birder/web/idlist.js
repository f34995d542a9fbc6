// @ts-check
// Many ids: a million UUIDs as 16 bytes each, in place of a million strings. Ids of another form stay strings.

const SIZE = 16; // bytes of a UUID
const TEXT = 36; // characters of one
const WORDS = SIZE / 4;
const DASHES = [8, 13, 18, 23];
const AT_ONCE = 100_000; // ids that become strings together
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const DIGITS = new TextEncoder().encode("0123456789abcdef");

/**
 * Ids in an order, each once.
 * @typedef {object} Ids
 * @property {number} length
 * @property {(index: number) => string} at
 * @property {(first?: number, last?: number) => string[]} slice as of an array
 * @property {(id: string) => number} indexOf -1 for one that is not there
 * @property {(others: Ids) => Uint32Array} indicesOf the places of others, without those that are not there
 */

/** @implements {Ids} */
export class UuidList {
  /** @type {Int32Array | null} by hash, the place of an id and 1; 0 where none is */
  #places = null;

  /** @param {ArrayBuffer} bytes 16 an id */
  constructor(bytes) {
    this.bytes = new Uint8Array(bytes);
    this.words = new Uint32Array(bytes);
    this.length = this.bytes.length / SIZE;
  }

  /** @param {number} index */
  at(index) {
    return this.slice(index, index + 1)[0];
  }

  slice(first = 0, last = this.length) {
    /** @type {string[]} */
    const found = [];
    const end = Math.min(last, this.length);
    for (let start = first; start < end; start += AT_ONCE) {
      const text = this.#text(start, Math.min(start + AT_ONCE, end));
      for (let at = 0; at < text.length; at += TEXT) found.push(text.slice(at, at + TEXT));
    }
    return found;
  }

  /** @param {string} id */
  indexOf(id) {
    return UUID.test(id) ? this.#find(wordsOf(id), 0) : -1;
  }

  /** @param {Ids} others */
  indicesOf(others) {
    const found = new Uint32Array(others.length);
    let count = 0;
    for (let other = 0; other < others.length; other++) {
      const index =
        others instanceof UuidList ? this.#find(others.words, other * WORDS) : this.indexOf(others.at(other));
      if (index >= 0) found[count++] = index;
    }
    return found.subarray(0, count);
  }

  /**
   * The ids from one to another as one text.
   * @param {number} first
   * @param {number} last
   */
  #text(first, last) {
    const letters = new Uint8Array((last - first) * TEXT);
    let to = 0;
    for (let from = first * SIZE; from < last * SIZE; to += TEXT) {
      for (let place = 0; place < TEXT; from++, place += 2) {
        if (DASHES.includes(place)) letters[to + place++] = 45;
        letters[to + place] = DIGITS[this.bytes[from] >> 4];
        letters[to + place + 1] = DIGITS[this.bytes[from] & 15];
      }
    }
    return new TextDecoder().decode(letters);
  }

  /**
   * The place of an id, -1 if it is not there.
   * @param {Uint32Array} words
   * @param {number} from where its words begin
   */
  #find(words, from) {
    const places = this.#places ?? this.#hashed();
    const mask = places.length - 1;
    for (let slot = hash(words, from) & mask; places[slot]; slot = (slot + 1) & mask) {
      if (this.#is(places[slot] - 1, words, from)) return places[slot] - 1;
    }
    return -1;
  }

  #hashed() {
    const places = new Int32Array(2 ** Math.ceil(Math.log2(2 * this.length + 2)));
    const mask = places.length - 1;
    for (let index = 0; index < this.length; index++) {
      let slot = hash(this.words, index * WORDS) & mask;
      while (places[slot]) slot = (slot + 1) & mask;
      places[slot] = index + 1;
    }
    this.#places = places;
    return places;
  }

  /**
   * @param {number} index
   * @param {Uint32Array} words
   * @param {number} from
   */
  #is(index, words, from) {
    const own = index * WORDS;
    for (let word = 0; word < WORDS; word++) if (this.words[own + word] !== words[from + word]) return false;
    return true;
  }
}

/** @implements {Ids} */
export class TextList {
  /** @type {Map<string, number> | null} */
  #places = null;

  /** @param {string[]} ids */
  constructor(ids) {
    this.ids = ids;
    this.length = ids.length;
  }

  /** @param {number} index */
  at(index) {
    return this.ids[index];
  }

  slice(first = 0, last = this.length) {
    return this.ids.slice(first, last);
  }

  /** @param {string} id */
  indexOf(id) {
    this.#places ??= new Map(this.ids.map((each, index) => [each, index]));
    return this.#places.get(id) ?? -1;
  }

  /** @param {Ids} others */
  indicesOf(others) {
    const found = others.slice().map((id) => this.indexOf(id));
    return Uint32Array.from(found.filter((index) => index >= 0));
  }
}

/** @param {string} id */
function wordsOf(id) {
  const digits = id.replaceAll("-", "");
  const bytes = Uint8Array.from({ length: SIZE }, (_, at) => Number.parseInt(digits.slice(2 * at, 2 * at + 2), 16));
  return new Uint32Array(bytes.buffer);
}

/**
 * @param {Uint32Array} words
 * @param {number} from
 */
const hash = (words, from) =>
  Math.imul(words[from] ^ Math.imul(words[from + 1], 0x9e3779b1) ^ words[from + 2], 0x85ebca6b) ^
  Math.imul(words[from + 3], 0xc2b2ae35);

/**
 * Which stack the image at a place is in.
 * @param {Uint32Array} starts of the stacks, ascending, and the end of the last
 * @param {number} index of the image
 */
export function stackAt(starts, index) {
  let [low, high] = [0, starts.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (starts[middle] <= index) low = middle;
    else high = middle;
  }
  return low;
}

/**
 * Where stacks of these sizes begin, and where the last ends.
 * @param {ArrayLike<number>} sizes
 */
export function startsOf(sizes) {
  const starts = new Uint32Array(sizes.length + 1);
  for (let at = 0; at < sizes.length; at++) starts[at + 1] = starts[at] + sizes[at];
  return starts;
}
