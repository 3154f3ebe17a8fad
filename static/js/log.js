import { byId, el, mark, write } from "./dom.js";
import { History } from "./history.js";
import { Rows } from "./rows.js";
import { clockTime, dateTime } from "./time.js";
import { nameOf, toneOf } from "./vm.js";
import { outlineOf, sentenceOf } from "./event_text.js";

// How many events are in memory while nobody scrolls back, and how many at most.
const USUAL = 2_000;
const MOST = 20_000;
const NEAR_END = 400;

const seqOf = event => event.data.seq;

/**
 * What happened, newest first. New events are added on top without moving what is being read; scrolling down reads
 * the history back.
 *
 * Dispatches `open` (detail: the event).
 */
export class EventLog extends EventTarget {
  #read;
  #find;
  #scroll = byId("log-scroll");
  #events = []; // ascending
  #unseen = 0;
  #paused = null; // the last seq that is shown while paused
  #hidden = new Set();
  #history = null;
  #loading = false;
  #failure = "";
  #rows;
  #frame = 0;

  /** `read(query)` reads a page of history; `find(id)` knows the VMs. */
  constructor(read, find) {
    super();
    this.#read = read;
    this.#find = find;
    this.#rows = new Rows({
      scroller: this.#scroll, body: byId("log-rows"), make: event => this.#makeRow(event), keyOf: event => event,
    });
    this.#scroll.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    byId("log-new").addEventListener("click", () => { this.#scroll.scrollTop = 0; this.#scroll.focus(); });
    byId("log-pause").addEventListener("click", () => this.#pause());
    for (const button of document.querySelectorAll(".log [data-type]")) {
      button.addEventListener("click", () => this.#toggle(button));
    }
  }

  /** Begin anew with what happened up to `seq`; later events come through `add`. */
  start(seq) {
    this.#events = [];
    this.#history = new History(this.#read, seq + 1);
    this.#unseen = 0;
    this.#older();
  }

  /** As long as nothing could be read, show this text in place of events. */
  explain(text) {
    this.#failure = text;
    this.#draw();
  }

  add(event) {
    const last = this.#events.at(-1);
    if (last && seqOf(last) >= seqOf(event)) {
      return;
    }
    this.#events.push(event);
    this.#trim();
    if (this.#shows(event)) {
      this.#unseen += 1;
    }
    this.#draw();
  }

  #shows({ type }) {
    return !this.#hidden.has(type);
  }

  /** The page's memory stays bounded however long it hangs on the wall. */
  #trim() {
    const limit = this.#scroll.scrollTop === 0 ? USUAL : MOST;
    if (this.#events.length > 2 * limit) {
      this.#events.splice(0, this.#events.length - limit);
      this.#history = new History(this.#read, seqOf(this.#events[0]));
    }
  }

  #draw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#arrange();
    });
  }

  #arrange() {
    const limit = this.#paused ?? Infinity;
    const top = this.#rows.items[0];
    const shown = this.#events.filter(event => this.#shows(event) && seqOf(event) <= limit).reverse();
    const added = top ? shown.findIndex(event => seqOf(event) <= seqOf(top)) : 0;
    const scrolled = this.#scroll.scrollTop;
    this.#rows.set(shown);
    if (scrolled > 0 && added > 0) {
      // Keep in place what is being read. The body must have grown before the position can.
      byId("log-rows").style.height = `${shown.length * this.#rows.height}px`;
      this.#scroll.scrollTop = scrolled + added * this.#rows.height;
    }
    this.#offerNew();
    byId("log-empty").hidden = shown.length > 0 || (this.#loading && !this.#failure);
    write(byId("log-empty"), this.#events.length ? "No event of the chosen types."
      : this.#failure ? `The events could not be read. ${this.#failure}` : "Nothing has happened yet.");
    write(byId("log-end"), this.#loading && !this.#failure ? "Reading the history…" : "");
    // A filter may leave less than a screenful: read on until it is full or the history ends.
    this.#scrolled();
  }

  #offerNew() {
    if (this.#scroll.scrollTop === 0 && this.#paused === null) {
      this.#unseen = 0;
    }
    const button = byId("log-new");
    button.hidden = this.#unseen === 0 || this.#paused !== null;
    write(button, `${this.#unseen} new ${this.#unseen === 1 ? "event" : "events"} ↑`);
    write(byId("log-pause"), this.#paused === null ? "Pause" : `Resume${this.#unseen ? ` (${this.#unseen})` : ""}`);
  }

  #scrolled() {
    this.#offerNew();
    const { scrollTop, clientHeight, scrollHeight } = this.#scroll;
    if (scrollHeight - scrollTop - clientHeight < NEAR_END && clientHeight > 0) {
      this.#older();
    }
  }

  async #older() {
    const history = this.#history;
    if (!history || history.ended || this.#loading) {
      return;
    }
    this.#loading = true;
    this.#draw();
    try {
      const events = await history.older();
      this.#failure = "";
      if (history === this.#history) {
        const first = this.#events[0];
        this.#events = [...events.filter(event => !first || seqOf(event) < seqOf(first)), ...this.#events];
      }
    } catch (error) {
      this.explain(error.message);
      // Scrolling on asks again. Not at once, lest it asks without end.
      await new Promise(resolve => { setTimeout(resolve, 5_000); });
    } finally {
      this.#loading = false;
      this.#draw();
    }
  }

  #pause() {
    this.#paused = this.#paused === null ? this.#events.at(-1)?.data.seq ?? 0 : null;
    this.#unseen = 0;
    byId("log-pause").setAttribute("aria-pressed", this.#paused !== null);
    this.#draw();
  }

  #toggle(button) {
    const { type } = button.dataset;
    if (!this.#hidden.delete(type)) {
      this.#hidden.add(type);
    }
    button.setAttribute("aria-pressed", !this.#hidden.has(type));
    this.#scroll.scrollTop = 0;
    this.#draw();
  }

  #makeRow(event) {
    const { type, data } = event;
    const time = el("time", { datetime: event.time, title: dateTime(Date.parse(event.time)) },
      clockTime(Date.parse(event.time)));
    const reason = el("span", { class: "log-reason" });
    const name = nameOf(data.vm ?? { id: event.subject });
    const element = el("div", { class: "log-row", "data-type": type },
      el("span", { class: "chip", "data-tone": toneOf(data.state) }, data.state ?? ""),
      el("button", { type: "button", class: "log-name", title: name, dir: "auto" }, name), time,
      el("span", { class: "log-type" }, type), reason);
    element.addEventListener("click", () => this.dispatchEvent(new CustomEvent("open", { detail: event })));
    const update = () => {
      const text = sentenceOf(event, this.#find) || outlineOf(data.vm ?? {});
      write(reason, text);
      mark(reason, "title", text || null);
    };
    return { element, update };
  }
}
