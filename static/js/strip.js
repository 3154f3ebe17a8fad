import { byId, draw, el, mark, write } from "./dom.js";
import { readPreference, savePreference } from "./preferences.js";
import { age, clockTime, dayTime } from "./time.js";

const HEIGHT = 100;
const MARK_LEAST = 30; // per cent of the height that a single eviction fills

/**
 * The strip chart: vCPUs in use and evictions over the last hours, by the service's own record. A moment is chosen by
 * pointing or with the arrow keys and read out in words; without one, now is.
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
  #limit = draw(this.#use, "line", { class: "limit", x1: 0, "vector-effect": "non-scaling-stroke" });
  #cursor = draw(this.#use, "line", { class: "cursor", y1: 0, y2: HEIGHT, "vector-effect": "non-scaling-stroke" });
  #plot = byId("strip-plot");
  #hours = byId("strip-hours");
  #usage = null;
  #total = null;
  #chosen = null;

  constructor() {
    super();
    this.#use.append(this.#areas.preemptible, this.#areas.standard, this.#limit, this.#cursor);
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

  #paint() {
    if (!this.#usage) {
      return;
    }
    const { standard, preemptible, evictions } = this.#usage;
    const sums = standard.map((amount, slot) => amount + preemptible[slot]);
    const top = Math.max(this.#total ?? 0, ...sums, 1) * 1.06;
    const y = amount => HEIGHT * (1 - amount / top);
    for (const svg of [this.#use, this.#evictions]) {
      mark(svg, "viewBox", `0 0 ${this.#slots} ${HEIGHT}`);
    }
    // What preemptible VMs hold stands on what standard ones hold; the lower area covers the upper one's foot.
    mark(this.#areas.preemptible, "d", steps(sums.map(y)));
    mark(this.#areas.standard, "d", steps(standard.map(y)));
    this.#limit.toggleAttribute("hidden", !this.#total);
    mark(this.#limit, "x2", this.#slots);
    mark(this.#limit, "y1", y(this.#total ?? 0));
    mark(this.#limit, "y2", y(this.#total ?? 0));
    const most = Math.max(...evictions, 1);
    this.#evictions.replaceChildren(...evictions.flatMap((count, slot) => (count ? [this.#bar(slot, count / most)] : [])));
    this.#paintTimes();
    this.#showReadout();
  }

  #paintTimes() {
    const { since, until } = this.#usage;
    const [from, to] = [Date.parse(since), Date.parse(until)];
    const name = to - from > 20 * 3600_000 ? dayTime : clockTime;
    const shown = [0, 0.25, 0.5, 0.75].map(share => el("span", {}, name(from + share * (to - from)).replace(/:\d\d$/, "")));
    byId("strip-times").replaceChildren(...shown, el("span", {}, "now"));
  }

  #bar(slot, share) {
    const height = MARK_LEAST + (HEIGHT - MARK_LEAST) * share;
    return draw(this.#evictions, "rect", { class: "eviction", x: slot + 0.08, y: HEIGHT - height, width: 0.84, height });
  }

  #slotAt({ clientX }) {
    const { left, width } = this.#plot.getBoundingClientRect();
    return Math.min(this.#slots - 1, Math.max(0, Math.floor((clientX - left) / width * this.#slots)));
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
    const gone = this.#chosen === null ? `${counted(all)} in ${age(Date.parse(until) - Date.parse(since))}`
      : `${counted(evictions[slot])} in ${age(1000 * step)}`;
    const text = `${when}: ${standard[slot]} standard + ${preemptible[slot]} preemptible${
      this.#total ? ` of ${this.#total}` : ""} vCPUs · ${gone}`;
    write(byId("strip-readout"), text);
    mark(this.#plot, "aria-valuemax", last);
    mark(this.#plot, "aria-valuenow", slot);
    mark(this.#plot, "aria-valuetext", text);
    this.#cursor.toggleAttribute("hidden", this.#chosen === null);
    mark(this.#cursor, "x1", slot + 0.5);
    mark(this.#cursor, "x2", slot + 0.5);
  }
}

/** The outline of an area of steps, one for each height, down to the foot. */
function steps(heights) {
  return `M0,${HEIGHT}${heights.map((height, slot) => `V${height.toFixed(2)}H${slot + 1}`).join("")}V${HEIGHT}Z`;
}

function counted(count) {
  return count ? `${count} ${count === 1 ? "eviction" : "evictions"}` : "no eviction";
}
