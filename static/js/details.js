import { byId, closable, el } from "./dom.js";
import { evictionElement } from "./evictions.js";
import { factElements, tickFacts } from "./facts.js";
import { lineageElement } from "./lineage.js";
import { hashOf } from "./navigation.js";
import { dateTime } from "./time.js";
import {
  FINAL, isDeletable, isOurs, isPractisable, isReleasable, keyOf, mayEndRestarts, nameOf, stateOf, toneOf,
} from "./vm.js";
import { sentenceOf } from "./event_text.js";

const HISTORY = 200;
const MOST_EVICTIONS = 20;
const ACTIONS = {
  remove: ["details-delete", isDeletable], practise: ["details-practise", isPractisable],
  release: ["details-release", isReleasable], endRestarts: ["details-end-restarts", mayEndRestarts],
};
// What the view of one VM has, and an event or an older list lacks.
const OF_ONE = ["addresses", "image_name", "network", "on_eviction", "restarts_left", "lineage"];

/**
 * All about one VM: its facts, its lineage, its evictions with their timelines, its history, its JSON.
 *
 * Dispatches `remove`, `practise`, `release` and `endRestarts` (detail: the VM), `shown` when it shows another VM than
 * before, and `closed`.
 */
export class DetailsDialog extends EventTarget {
  #api;
  #clock;
  #find;
  #health;
  #access;
  #dialog = byId("details-dialog");
  #facts = byId("details-facts");
  #vm = null;
  #view = null; // the service's view of this one VM
  #past = null; // as its last event has it, for a VM that is gone

  constructor(api, clock, find, health, access) {
    super();
    this.#api = api;
    this.#clock = clock;
    this.#find = find;
    this.#health = health;
    this.#access = access;
    closable(this.#dialog);
    this.#dialog.addEventListener("close", () => this.dispatchEvent(new CustomEvent("closed")));
    for (const [action, [id]] of Object.entries(ACTIONS)) {
      byId(id).addEventListener("click", () => {
        const vm = this.#whole;
        this.#dialog.close();
        this.dispatchEvent(new CustomEvent(action, { detail: vm }));
      });
    }
  }

  /** Show a VM; `json` is shown under "As JSON", by default the VM. */
  show(vm, json = vm) {
    this.#view = this.#past = null;
    for (const id of ["details-history", "details-evictions", "details-lineage"]) {
      byId(id).replaceChildren();
    }
    byId("details-evictions").hidden = true;
    byId("details-json").textContent = JSON.stringify(json, null, 2);
    this.#read(vm);
    if (this.#dialog.open) {
      this.dispatchEvent(new CustomEvent("shown"));
    } else {
      this.#dialog.showModal();
    }
  }

  /** As a place with an address. */
  get place() {
    return {
      dialog: this.#dialog, hash: () => (this.shown === null ? "" : hashOf(this.shown)),
      show: hash => {
        if (!hash.startsWith(hashOf(""))) {
          return false;
        }
        const id = decodeURIComponent(hash.slice(hashOf("").length));
        return id === this.shown || this.show(this.#find(id) ?? { id, vmsvc_id: id });
      },
    };
  }

  /** The id of the VM that is shown; null when none is. */
  get shown() {
    return this.#dialog.open ? keyOf(this.#vm) : null;
  }

  /** A VM has changed: show its new state if it is the one that is shown. */
  refresh(vm) {
    if (this.shown === keyOf(vm)) {
      this.#read(vm);
    }
  }

  /** Show what is left of its notice, or of its wait. */
  tick() {
    if (this.#dialog.open) {
      tickFacts(this.#facts, this.#clock.now());
    }
  }

  #read(vm) {
    this.#vm = vm;
    this.#write();
    const history = this.#showHistory(vm);
    if (stateOf(vm) === "unknown") {
      history.then(() => this.#readView(vm)); // its last event says whether it is still there
    } else {
      this.#readView(vm);
    }
    this.#showEvictions(vm);
  }

  /** All that is known: by the store, or by the last event, with what only the view of one VM has. */
  get #whole() {
    const view = Object.fromEntries(OF_ONE.filter(name => name in (this.#view ?? {})).map(name => [name, this.#view[name]]));
    return { ...this.#past, ...this.#vm, ...view };
  }

  #write() {
    const vm = this.#whole;
    byId("details-title").textContent = nameOf(vm);
    this.#facts.replaceChildren(
      ...factElements(vm, this.#clock.now(), this.#find, this.#health.reasonFor(stateOf(vm))));
    for (const [id, isOffered] of Object.values(ACTIONS)) {
      byId(id).hidden = !this.#access.mayWrite || !isOffered(vm);
    }
    const home = byId("details-lineage");
    const line = lineageElement(vm, home.querySelector("details")?.open ?? false, member => this.show(
      this.#find(member.vmsvc_id) ?? { name: vm.name, is_preemptible: vm.is_preemptible, ...member }));
    home.replaceChildren(...(line ? [line] : []));
  }

  async #readView(vm) {
    if (vm !== this.#vm || FINAL.has(stateOf(this.#whole))) {
      return; // the service has no view of a VM that is gone
    }
    const view = await this.#api.vm(vm.id ?? keyOf(vm)).catch(() => null);
    // The id of a lineage's first VM leads to the newest one.
    if (vm === this.#vm && view && keyOf(view) === keyOf(vm)) {
      this.#view = view;
      this.#write();
    }
  }

  async #showHistory(vm) {
    const list = byId("details-history");
    const title = byId("details-history-title");
    title.hidden = list.hidden = !isOurs(vm);
    if (!isOurs(vm)) {
      return;
    }
    try {
      const { events } = await this.#api.history({ vm: vm.vmsvc_id, limit: HISTORY });
      if (vm === this.#vm) {
        list.replaceChildren(...events.map(event => this.#line(event)));
        this.#past = events.at(-1)?.data.vm ?? null;
        this.#write();
      }
    } catch (error) {
      list.replaceChildren(el("li", {}, error.message));
    }
  }

  /** Its evictions as a victim, and those that it was the preemptor of. An unfolded one stays unfolded. */
  async #showEvictions(vm) {
    if (!isOurs(vm)) {
      return;
    }
    const limit = MOST_EVICTIONS;
    const home = byId("details-evictions");
    const pages = await Promise.all([{ vm: vm.vmsvc_id, limit }, { request: vm.vmsvc_id, limit }]
      .map(query => this.#api.evictions(query))).catch(() => null);
    if (vm !== this.#vm || pages === null) {
      return; // another VM is shown by now; or the history below says that the service is away
    }
    const records = pages.flatMap(({ evictions }) => evictions);
    const folded = new Set([...home.querySelectorAll("details")].filter(({ open }) => !open).map(({ dataset }) => dataset.id));
    home.hidden = records.length === 0;
    home.replaceChildren(el("h3", {}, records.length === 1 ? "Eviction" : "Evictions"),
      ...records.map((record, index) => evictionElement(record, vm.vmsvc_id, index === 0 && !folded.has(String(record.id)))));
  }

  #line(event) {
    return el("li", {},
      el("time", { datetime: event.time }, dateTime(Date.parse(event.time))),
      el("span", { class: "chip", "data-tone": toneOf(event.data.state) }, event.data.state),
      el("span", { class: "log-reason" }, sentenceOf(event, this.#find)));
  }
}
