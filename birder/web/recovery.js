// @ts-check
// Going on after the server was away: it is asked until it answers, and then everybody hears of it.

import { api } from "./api.js";
import { tellAll } from "./signals.js";

const ASK = 2000; // milliseconds between two questions
let asking = false;

export function startRecovery() {
  addEventListener("birder-silent", () => {
    if (asking) return;
    asking = true;
    setTimeout(ask, ASK);
  });
}

async function ask() {
  try {
    await api.collection();
    asking = false;
    tellAll("back");
  } catch {
    setTimeout(ask, ASK);
  }
}
