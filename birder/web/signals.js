// @ts-check
// What parts of the page tell each other; types.d.ts lists the signals.

/** @import {Signals} from "./types.js" */

/** @type {Map<keyof Signals, Set<(detail: any) => unknown>>} */
const listeners = new Map();

/**
 * Call `action` at each signal of a name; gives the function that ends that.
 * @template {keyof Signals} N
 * @param {N} name
 * @param {(detail: Signals[N]) => unknown} action
 */
export function listen(name, action) {
  const actions = listeners.get(name) ?? new Set();
  listeners.set(name, actions.add(action));
  return () => {
    actions.delete(action);
  };
}

/**
 * Call all listeners. One that fails does not prevent the others from being called.
 * @template {keyof Signals} N
 * @param {Signals[N] extends undefined ? [name: N] : [name: N, detail: Signals[N]]} signal
 */
export function tellAll(...signal) {
  const [name, detail] = signal;
  for (const action of [...(listeners.get(name) ?? [])]) {
    try {
      action(detail);
    } catch (error) {
      reportError(error);
    }
  }
}
