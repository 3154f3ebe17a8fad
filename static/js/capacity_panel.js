import { byId, el, mark, write } from "./dom.js";
import { bins, fits, PARTS } from "./capacity.js";
import { age, clockTime } from "./time.js";

const PART_NAMES = { foreign: "not ours" };

/** One stacked bar with its number. The same elements are changed in place, so that the bar glides. */
class Bar {
  #parts = Object.fromEntries(PARTS.map(part => [part, el("span", { class: part })]));
  #label = el("span", { class: "bar-label" });
  #value = el("span", { class: "bar-value" });
  #track = el("div", { class: "bar-track", role: "img" }, ...Object.values(this.#parts));

  constructor() {
    this.element = el("div", { class: "bar" }, this.#label, this.#track, this.#value);
  }

  update({ title, unit, total, amounts }) {
    const { free, reserved, ...held } = amounts;
    const used = Object.values(held).reduce((sum, amount) => sum + amount, 0);
    // More may be held than there is: racing claims can over-commit a host.
    const whole = Math.max(total ?? 0, used + reserved + free) || 1;
    const words = PARTS.map(part => `${unit(amounts[part])} ${PART_NAMES[part] ?? part}`).join(", ");
    write(this.#label, title);
    write(this.#value, total === null ? `${unit(used)} used` : `${unit(free)} free`);
    for (const part of PARTS) {
      this.#parts[part].style.width = `${100 * amounts[part] / whole}%`;
    }
    mark(this.#track, "aria-label", `${title}: ${words}${total === null ? ", no limit" : `, of ${unit(total)}`}`);
    mark(this.#track, "title", this.#track.getAttribute("aria-label"));
  }
}

/** The capacity of the cloud at a glance: the quota, the hosts, and how many VMs of each flavor still fit. */
export class CapacityPanel {
  #tiles = new Map();
  #whole = el("div", { class: "capacity-whole" });
  #hosts = el("div", { class: "capacity-hosts", role: "list", "aria-label": "Hosts" });
  #fits = el("div", { class: "capacity-fits" });
  #waiting = el("p", { class: "note" });
  #shown = false;
  #readAt = null;
  #failed = false;

  /** Show an answer of `GET capacity` that came at `now`. */
  show(capacity, now) {
    this.#readAt = now;
    this.#failed = false;
    if (!this.#shown) {
      this.#shown = true;
      byId("capacity-body").replaceChildren(this.#whole, this.#hosts, this.#fits, this.#waiting);
    }
    const mode = byId("mode");
    mode.hidden = !capacity.mode;
    write(mode, capacity.mode ?? "");
    mark(mode, "title", capacity.mode === "operator"
      ? "Operator's credentials: hosts are known" : "A project's credentials: the quota is known, hosts by evidence alone");
    const { wholes, hosts } = bins(capacity);
    this.#showTiles(this.#whole, wholes, "whole");
    this.#showTiles(this.#hosts, hosts, "host");
    this.#hosts.hidden = hosts.length === 0;
    this.#removeOthers(new Set([...wholes, ...hosts].map(({ name }) => name)));
    this.#showFits(fits(capacity));
    const { count = 0, vcpus = 0 } = capacity.waiting ?? {};
    this.#waiting.hidden = count === 0;
    write(this.#waiting, `${count === 1 ? "1 request waits" : `${count} requests wait`} for capacity: ${vcpus} vCPU`);
  }

  /** It could not be read: why. As long as there are no bars, show this text in their place. */
  explain(text) {
    this.#failed = true;
    if (!this.#shown) {
      byId("capacity-body").replaceChildren(el("p", { class: "empty" }, text));
    }
  }

  /** Show how old the numbers are when they are not those of now. */
  tick(now, { cloudIsAway, goodAt }) {
    const aged = this.#shown && (this.#failed || cloudIsAway);
    const asOf = cloudIsAway && goodAt !== null ? Math.min(goodAt, this.#readAt) : this.#readAt;
    byId("capacity-age").hidden = !aged;
    mark(byId("capacity-body"), "data-aged", aged);
    if (aged && now !== null) {
      write(byId("capacity-age"), `as of ${clockTime(asOf)}, ${age(now - asOf)} ago`);
    }
  }

  #showTiles(home, bins, kind) {
    for (const [index, bin] of bins.entries()) {
      const tile = this.#tiles.get(bin.name) ?? this.#tile(home, bin.name, kind);
      if (home.children[index] !== tile.element) {
        home.insertBefore(tile.element, home.children[index] ?? null);
      }
      write(tile.title, bin.title);
      write(tile.note, bin.byEvidence ? "by evidence" : bin.available ? "" : "not available");
      mark(tile.element, "title", bin.words || null);
      mark(tile.element, "data-down", !bin.available);
      bin.measures.forEach((measure, number) => {
        tile.bars[number] ??= this.#bar(tile.element);
        tile.bars[number].update(measure);
      });
    }
  }

  #tile(home, name, kind) {
    const title = el("h3");
    const note = el("span", { class: "note" });
    const element = el("div", { class: `tile ${kind}`, role: kind === "host" ? "listitem" : "group" },
      el("div", { class: "tile-head" }, title, note));
    home.append(element);
    const tile = { element, title, note, bars: [] };
    this.#tiles.set(name, tile);
    return tile;
  }

  #bar(home) {
    const bar = new Bar();
    home.append(bar.element);
    return bar;
  }

  #removeOthers(names) {
    for (const [name, { element }] of this.#tiles) {
      if (!names.has(name)) {
        element.remove();
        this.#tiles.delete(name);
      }
    }
  }

  #showFits({ columns, rows }) {
    this.#fits.hidden = rows.length === 0;
    this.#fits.replaceChildren(el("table", {},
      el("caption", {}, "How many still fit"),
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Flavor"),
        ...columns.map(({ title, why }) => el("th", { scope: "col", title: why }, title)))),
      el("tbody", {}, ...rows.map(({ name, size, texts }) => el("tr", {},
        el("th", { scope: "row", title: size || null }, name), ...texts.map(text => el("td", {}, text)))))));
  }
}
