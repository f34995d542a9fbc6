// @ts-check
// Places on a plane: equirectangular, a kilometre as long to the east as to the north at the middle latitude.

const KILOMETRES = 111.32; // in a degree of latitude
const LEAST = 1; // kilometres that the longer side shows at least
const LEAST_EXTENT = 0.02; // of the shorter side, as a share of half of the longer
const NARROWEST = 0.01; // a degree of longitude as a share of one of latitude, near a pole

/**
 * The plane: units from its middle, the longer side of the box around the places from -1 to 1.
 * @typedef {object} Plane
 * @property {Float32Array} xy of the places: x0, y0, x1, y1, ...
 * @property {[width: number, height: number]} extent of the box around them, in units
 * @property {number} kilometres in a unit
 * @property {number} latitude of the middle
 * @property {number} longitude of the middle; may be beyond 180
 * @property {number} narrow a degree of longitude as a share of one of latitude
 */

/**
 * @param {{latitude: number, longitude: number}[]} places
 * @returns {Plane}
 */
export function projected(places) {
  const shift = shiftOf(places.map(({ longitude }) => longitude));
  const longitudes = places.map(({ longitude }) => longitude + (longitude <= shift ? 360 : 0));
  const [south, north] = ends(places.map(({ latitude }) => latitude));
  const [west, east] = ends(longitudes);
  const [latitude, longitude] = [(south + north) / 2, (west + east) / 2];
  const narrow = Math.max(Math.cos((latitude * Math.PI) / 180), NARROWEST);
  const [wide, high] = [(east - west) * narrow * KILOMETRES, (north - south) * KILOMETRES];
  const kilometres = Math.max(wide, high, LEAST) / 2;
  const xy = new Float32Array(2 * places.length);
  for (let place = 0; place < places.length; place++) {
    xy[2 * place] = ((longitudes[place] - longitude) * narrow * KILOMETRES) / kilometres;
    xy[2 * place + 1] = ((places[place].latitude - latitude) * KILOMETRES) / kilometres;
  }
  /** @type {[number, number]} */
  const extent =
    Math.max(wide, high) < LEAST
      ? [2, 2]
      : [Math.max(wide / kilometres, LEAST_EXTENT), Math.max(high / kilometres, LEAST_EXTENT)];
  return { xy, extent, kilometres, latitude, longitude, narrow };
}

/**
 * The longitude up to which places are moved once around the earth, so that what lies on both sides of 180 degrees is in
 * one piece: the world is cut where the widest gap is.
 * @param {number[]} longitudes
 */
function shiftOf(longitudes) {
  const ordered = [...new Set(longitudes)].sort((a, b) => a - b);
  let [widest, at] = [360 - (ordered[ordered.length - 1] - ordered[0]), -Infinity];
  for (let index = 1; index < ordered.length; index++) {
    const gap = ordered[index] - ordered[index - 1];
    if (gap > widest) [widest, at] = [gap, ordered[index - 1]];
  }
  return at;
}

/** @param {number[]} values */
function ends(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  return values.length ? [low, high] : [0, 0];
}

/**
 * The lines of whole latitudes and longitudes across a part of the plane, in units.
 * @param {Plane} plane
 * @param {{left: number, right: number, low: number, high: number}} part
 */
export function graticule({ kilometres, latitude, longitude, narrow }, { left, right, low, high }) {
  const degree = KILOMETRES / kilometres; // of latitude, in units
  const step = roundStep(Math.max(right - left, high - low) / degree / 5);
  const across = roundStep((right - left) / (degree * narrow) / 5);
  /**
   * @param {number} from
   * @param {number} to
   * @param {number} by
   */
  const between = (from, to, by) => {
    const first = Math.ceil(from / by - 1e-9);
    return Array.from(
      { length: Math.max(0, Math.floor(to / by + 1e-9) - first + 1) },
      (_, index) => (first + index) * by,
    );
  };
  return {
    parallels: between(Math.max(-90, latitude + low / degree), Math.min(90, latitude + high / degree), step).map(
      (value) => ({ at: (value - latitude) * degree, text: degrees(value, "N", "S") }),
    ),
    meridians: between(longitude + left / (degree * narrow), longitude + right / (degree * narrow), across).map(
      (value) => ({ at: (value - longitude) * degree * narrow, text: degrees(turned(value), "E", "W") }),
    ),
  };
}

/**
 * A longitude from -180 to 180.
 * @param {number} longitude
 */
const turned = (longitude) => ((((longitude + 180) % 360) + 360) % 360) - 180;

/**
 * The least of 1, 2, 5, 10, 20, ... times a power of ten that is not below a number.
 * @param {number} least
 */
function roundStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return ([1, 2, 5].find((each) => each * power >= least * 0.999) ?? 10) * power;
}

/**
 * 51.2, "N", "S" -> "51.2° N".
 * @param {number} value
 * @param {string} positive
 * @param {string} negative
 */
function degrees(value, positive, negative) {
  const number = Number(Math.abs(value).toFixed(5));
  return number === 0 || number === 180 ? `${number}°` : `${number}° ${value > 0 ? positive : negative}`;
}

/**
 * "51.2° N, 4.41° E".
 * @param {{latitude: number, longitude: number}} place
 */
export const coordinates = ({ latitude, longitude }) =>
  `${degrees(latitude, "N", "S")}, ${degrees(longitude, "E", "W")}`;

/**
 * The longest bar of a round length that is not longer than so many pixels.
 * @param {number} pixels a kilometre
 * @param {number} most
 * @returns {{pixels: number, text: string}}
 */
export function scaleBar(pixels, most) {
  const room = most / pixels;
  const power = 10 ** Math.floor(Math.log10(room));
  const length = ([5, 2].find((each) => each * power <= room) ?? 1) * power;
  const text = length >= 1 ? `${length.toLocaleString("en")} km` : `${Number((1000 * length).toPrecision(1))} m`;
  return { pixels: length * pixels, text };
}
