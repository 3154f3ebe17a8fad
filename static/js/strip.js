import { byId, draw, el, mark, write } from "./dom.js";
import { readPreference, savePreference } from "./preferences.js";
import { age, clockTime, dayTime } from "./time.js";

const HEIGHT = 100;
const MARK_LEAST = 30; // per cent of the height that a single eviction fills
const MARK_WIDTH = 1 / 300; // the least part of the width
const SCALE = 4; // a limit further away than so many times what is used would make the areas a line
const HOUR = 3600_000;

/**
 * The strip chart: vCPUs in use and evictions over the last hours, by the service's own record. The axis is as long as the
 * hours that were chosen; before the service was first started there is no record. A moment is chosen by pointing or with
 * the arrow keys and read out in words; without one, now is.
 *
 * Dispatches `range` when another time is wanted.
 */
export class Strip extends EventTarget {
  #use = byId("strip-use");
  #evictions = byId("strip-evictions");
  #areas = {
    preemptible: draw(this.#use, "path", { class: "area-preemptible" }),
    standard: draw(this.#use, "path", { class: "area-standard" }),
  };
  #unknown = draw(this.#use, "rect", { class: "unknown", x: 0, y: 0, height: HEIGHT });
  #limit = draw(this.#use, "line", { class: "limit", x1: 0, "vector-effect": "non-scaling-stroke" });
  #cursor = draw(this.#use, "line", { class: "cursor", y1: 0, y2: HEIGHT, "vector-effect": "non-scaling-stroke" });
  #plot = byId("strip-plot");
  #hours = byId("strip-hours");
  #usage = null;
  #total = null;
  #chosen = null;

  constructor() {
    super();
    this.#use.append(this.#unknown, this.#areas.preemptible, this.#areas.standard, this.#limit, this.#cursor);
    this.#hours.value = readPreference("hours", "6");
    this.#hours.addEventListener("change", () => {
      savePreference("hours", this.#hours.value);
      this.#choose(null);
      this.dispatchEvent(new CustomEvent("range"));
    });
    this.#plot.addEventListener("pointermove", event => this.#choose(this.#slotAt(event)));
    this.#plot.addEventListener("pointerleave", () => this.#choose(null));
    this.#plot.addEventListener("blur", () => this.#choose(null));
    this.#plot.addEventListener("keydown", event => this.#key(event));
  }

  /** The hours that are shown. */
  get hours() {
    return Number(this.#hours.value);
  }

  /** An answer of `GET usage`. */
  show(usage) {
    this.#usage = usage;
    const recorded = Date.parse(usage.until) - Date.parse(usage.since);
    if (recorded < HOUR && readPreference("hours", null) === null) {
      this.#hours.value = "1"; // a young service, and nobody has chosen
    }
    byId("strip").hidden = false;
    this.#paint();
  }

  /** All vCPUs there are now; null: unknown. */
  limit(total) {
    this.#total = total;
    this.#paint();
  }

  get #slots() {
    return this.#usage?.standard.length ?? 0;
  }

  /** How many slots of the axis are before the record begins. */
  get #missing() {
    return Math.max(0, Math.round(this.hours * 3600 / this.#usage.step_seconds) - this.#slots);
  }

  #paint() {
    if (!this.#usage) {
      return;
    }
    const { standard, preemptible, evictions } = this.#usage;
    const sums = standard.map((amount, slot) => amount + preemptible[slot]);
    const most = Math.max(...sums, 1);
    const inScale = this.#total !== null && this.#total <= SCALE * most;
    const top = Math.max(inScale ? this.#total : 0, most) * 1.06;
    const y = amount => HEIGHT * (1 - amount / top);
    const missing = this.#missing;
    const width = missing + this.#slots;
    for (const svg of [this.#use, this.#evictions]) {
      mark(svg, "viewBox", `0 0 ${width} ${HEIGHT}`);
    }
    mark(this.#unknown, "width", missing);
    // What preemptible VMs hold stands on what standard ones hold; the lower area covers the upper one's foot.
    mark(this.#areas.preemptible, "d", steps(missing, sums.map(y)));
    mark(this.#areas.standard, "d", steps(missing, standard.map(y)));
    this.#limit.toggleAttribute("hidden", !inScale);
    mark(this.#limit, "x2", width);
    mark(this.#limit, "y1", y(this.#total ?? 0));
    mark(this.#limit, "y2", y(this.#total ?? 0));
    const worst = Math.max(...evictions, 1);
    this.#evictions.replaceChildren(...evictions.flatMap((count, slot) =>
      (count ? [this.#bar(missing + slot, count / worst, width)] : [])));
    this.#paintTimes();
    this.#showReadout();
  }

  #paintTimes() {
    const to = Date.parse(this.#usage.until);
    const from = to - this.hours * HOUR;
    const name = this.hours > 20 ? dayTime : clockTime;
    const shown = [0, 0.25, 0.5, 0.75].map(share => el("span", {}, name(from + share * (to - from)).replace(/:\d\d$/, "")));
    byId("strip-times").replaceChildren(...shown, el("span", {}, "now"));
  }

  #bar(slot, share, axis) {
    const height = MARK_LEAST + (HEIGHT - MARK_LEAST) * share;
    const width = Math.max(0.84, axis * MARK_WIDTH);
    const x = Math.min(slot + 0.08, axis - width);
    return draw(this.#evictions, "rect", { class: "eviction", x, y: HEIGHT - height, width, height });
  }

  #slotAt({ clientX }) {
    const { left, width } = this.#plot.getBoundingClientRect();
    const slot = Math.floor((clientX - left) / width * (this.#missing + this.#slots)) - this.#missing;
    return Math.min(this.#slots - 1, Math.max(0, slot));
  }

  #choose(slot) {
    this.#chosen = slot;
    this.#showReadout();
  }

  #key(event) {
    const last = this.#slots - 1;
    const at = this.#chosen ?? last;
    const page = Math.max(1, Math.round(last / 10));
    const to = { ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1,
      PageDown: at - page, PageUp: at + page, Home: 0, End: last }[event.key];
    if (to !== undefined && last >= 0) {
      event.preventDefault();
      this.#choose(Math.min(last, Math.max(0, to)));
    }
  }

  /** The chosen moment, or now, in words. */
  #showReadout() {
    if (!this.#usage) {
      return;
    }
    const { since, until, step_seconds: step, standard, preemptible, evictions } = this.#usage;
    const last = this.#slots - 1;
    const slot = Math.min(this.#chosen ?? last, last);
    const all = evictions.reduce((sum, count) => sum + count, 0);
    const when = this.#chosen === null || slot === last
      ? "Now" : clockTime(Date.parse(since) + 1000 * step * (slot + 1));
    const recorded = Date.parse(until) - Date.parse(since);
    const gone = this.#chosen === null
      ? `${counted(all)} in ${age(recorded)}${recorded < 0.95 * this.hours * HOUR ? ", since the service was first started" : ""}`
      : `${counted(evictions[slot])} in ${age(1000 * step)}`;
    const text = `${when}: ${standard[slot]} standard + ${preemptible[slot]} preemptible${
      this.#total ? ` of ${this.#total.toLocaleString()}` : ""} vCPUs · ${gone}`;
    write(byId("strip-readout"), text);
    mark(this.#plot, "aria-valuemax", last);
    mark(this.#plot, "aria-valuenow", slot);
    mark(this.#plot, "aria-valuetext", text);
    this.#cursor.toggleAttribute("hidden", this.#chosen === null);
    mark(this.#cursor, "x1", this.#missing + slot + 0.5);
    mark(this.#cursor, "x2", this.#missing + slot + 0.5);
  }
}

/** The outline of an area of steps from `first` on, one for each height, down to the foot. */
function steps(first, heights) {
  return `M${first},${HEIGHT}${heights.map((height, slot) => `V${height.toFixed(2)}H${first + slot + 1}`).join("")}V${HEIGHT}Z`;
}

function counted(count) {
  return count ? `${count} ${count === 1 ? "eviction" : "evictions"}` : "no eviction";
}
