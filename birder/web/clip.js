// @ts-check
// The video that a frame is of: a player that stands at the frame's time, and what to do where the browser has none.

import { api, imageUrl, videoUrl } from "./api.js";
import { el, fill, messageOf } from "./dom.js";
import { clock } from "./format.js";

/** @import {Child, PhotoDetails, VideoOfFrame} from "./types.js" */

const NEVER_PLAYED = ["video/x-msvideo"]; // AVI, by no browser

/**
 * @typedef {object} Clip
 * @property {HTMLVideoElement | null} player null if no browser plays such files
 * @property {HTMLElement} note
 * @property {() => void} toggle plays or pauses
 * @property {() => void} end gives up what is being loaded
 */

/**
 * A player with the frame as its poster, which loads nothing before it is played, and a note on the video.
 * @param {PhotoDetails} photo
 * @param {VideoOfFrame} video
 * @param {string} title
 * @param {() => void} onfailed is called if the browser cannot play it
 * @returns {Clip}
 */
export function clip({ id }, video, title, onfailed) {
  const note = el("p", { class: "hint clip-note" });
  /** @param {Child[]} more */
  const say = (...more) =>
    fill(
      note,
      `A frame of ${video.name} at ${clock(video.seconds)}. `,
      more,
      el("a", { href: videoUrl(id), download: video.name }, "Download the video"),
    );
  if (NEVER_PLAYED.includes(video.media_type)) {
    say("Browsers do not play AVI files. ");
    return { player: null, note, toggle() {}, end() {} };
  }
  say();
  const player = el("video", {
    class: "large loaded",
    controls: true,
    preload: "none",
    poster: imageUrl(id, { whole: true }),
    src: videoUrl(id),
    "aria-label": title,
  });
  player.currentTime = video.seconds;
  let ended = false;
  player.addEventListener("error", async () => {
    if (ended) return;
    onfailed();
    try {
      await api.video(id);
      say("This browser cannot play it: it does not know the format. ");
    } catch (error) {
      fill(note, messageOf(error));
    }
  });
  return {
    player,
    note,
    toggle() {
      if (player.paused)
        player.play().catch(() => {}); // an error has its event, too
      else player.pause();
    },
    end() {
      ended = true;
      player.pause();
      player.removeAttribute("src");
      player.load();
    },
  };
}
