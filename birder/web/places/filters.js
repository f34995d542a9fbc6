// @ts-check
// The filter that a place stands for: its stations where these are its images, else a box of coordinates.

/** @import {Filter, Place} from "../types.js" */

const [LATITUDE, LONGITUDE] = ["latitude", "longitude"];

/**
 * Whether images are filtered by a place.
 * @param {Place} place
 * @param {string | null} station the column of stations
 * @param {Filter[]} filters
 */
export function isOn(place, station, filters) {
  /** @param {string | null} column */
  const of = (column) => filters.find((filter) => filter.column === column);
  if (place.exact) {
    const values = of(station)?.values ?? [];
    return place.names.every((name) => values.includes(name));
  }
  const [south, north, west, east] = place.box;
  /**
   * @param {Filter | undefined} filter
   * @param {number} from
   * @param {number} to
   */
  const is = (filter, from, to) => filter?.from === from && filter.to === to;
  return is(of(LATITUDE), south, north) && is(of(LONGITUDE), west, east);
}

/**
 * The filters once a place was pressed: by it as well or, if they were by it already, no longer. A box takes the place of
 * other places.
 * @param {Place} place
 * @param {string | null} station
 * @param {Filter[]} filters
 * @returns {Filter[]}
 */
export function toggled(place, station, filters) {
  const on = isOn(place, station, filters);
  const isBox = (/** @type {Filter} */ { column }) => column === LATITUDE || column === LONGITUDE;
  if (!place.exact || station === null) {
    const others = filters.filter((filter) => !isBox(filter) && !(filter.column === station && filter.values));
    if (on) return others;
    const [south, north, west, east] = place.box;
    return [
      ...others,
      { column: LATITUDE, type: "number", from: south, to: north },
      { column: LONGITUDE, type: "number", from: west, to: east },
    ];
  }
  const others = filters.filter((filter) => !isBox(filter) && filter.column !== station);
  const before = filters.find((filter) => filter.column === station);
  const without = (before?.values ?? []).filter((value) => !place.names.includes(String(value)));
  const values = on ? without : [...without, ...place.names];
  const any = values.length || before?.none || before?.contains;
  return any ? [...others, { ...before, column: station, values }] : others;
}
