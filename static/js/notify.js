import { byId, mark } from "./dom.js";
import { showMessage } from "./messages.js";
import { readPreference, savePreference } from "./preferences.js";
import { spoken } from "./time.js";
import { nameOf } from "./vm.js";
import { deadlineOf, preemptorOf } from "./event_text.js";

const GATHER = 500;
const MOST = 3;
// Older events were missed while the connection was down: it is too late to interrupt anybody for them.
const FRESH = 60_000;

/**
 * The browser's own notifications of evictions, for a page that nobody looks at. Off until somebody switches them on
 * and the browser allows it; many at once are one.
 */
export class Notifier {
  #clock;
  #find;
  #button = byId("notify");
  #waiting = [];
  #timer = 0;

  constructor(clock, find) {
    this.#clock = clock;
    this.#find = find;
    this.#button.hidden = !isPossible();
    this.#button.addEventListener("click", () => this.#toggle());
    this.#show();
  }

  get #on() {
    return "Notification" in window && Notification.permission === "granted" && readPreference("notify", "no") === "yes";
  }

  /** Note an event of the stream. */
  eventReceived(event) {
    const { type, data } = event;
    const now = this.#clock.now();
    if (type !== "evict" || !["noticed", "evicted"].includes(data.state) || !this.#on
      || (now !== null && now - Date.parse(event.time) > FRESH)) {
      return;
    }
    this.#waiting.push(this.#textOf(event, now));
    this.#timer ||= setTimeout(() => this.#notify(), GATHER);
  }

  #textOf({ subject, data }, now) {
    const name = nameOf(data.vm ?? { id: subject });
    if (data.state === "evicted") {
      return { state: "evicted", tag: subject, title: `${name} was evicted`, body: "" };
    }
    const left = deadlineOf(data) - (now ?? NaN);
    const preemptor = preemptorOf(data, this.#find);
    return {
      state: "noticed", tag: subject,
      title: `${name} will be evicted${Number.isFinite(left) ? ` in ${spoken(left)}` : ""}`,
      body: preemptor ? `It frees capacity for ${preemptor.name}.` : String(data.reason ?? ""),
    };
  }

  #notify() {
    this.#timer = 0;
    const all = this.#waiting.splice(0);
    for (const { title, body, tag } of all.length > MOST ? summed(all) : all) {
      try {
        const shown = new Notification(title, { body, tag, icon: byId("mark").src });
        shown.addEventListener("click", () => { window.focus(); shown.close(); });
      } catch {
        this.#button.hidden = true;
        showMessage("This browser shows no notifications of a page.");
        break;
      }
    }
  }

  async #toggle() {
    if (this.#on) {
      savePreference("notify", "no");
    } else if (await Notification.requestPermission() === "granted") {
      savePreference("notify", "yes");
    }
    this.#show();
  }

  #show() {
    const refused = "Notification" in window && Notification.permission === "denied";
    mark(this.#button, "aria-pressed", String(this.#on));
    this.#button.disabled = refused;
    mark(this.#button, "title", refused ? "The browser's settings forbid notifications of this page"
      : "Show a notification of the browser when a VM gets its notice, and when it is evicted");
  }
}

/**
 * Browsers offer them over https and on the own machine only. Chromium on Android has the class all the same, and lets only
 * a service worker use it; this page may start none, by its security policy. So it is tried, where trying shows nothing.
 */
function isPossible() {
  if (!("Notification" in window)) {
    return false;
  }
  if (Notification.permission === "granted") {
    return true; // what is shown first tells
  }
  try {
    new Notification("").close();
    return true;
  } catch {
    return false;
  }
}

function summed(all) {
  const texts = { noticed: "VMs will be evicted", evicted: "VMs were evicted" };
  return Object.entries(texts).map(([state, text]) => [all.filter(one => one.state === state).length, text, state])
    .filter(([count]) => count).map(([count, text, state]) => ({ title: `${count} ${text}`, body: "", tag: state }));
}
