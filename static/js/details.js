import { byId, closable, el } from "./dom.js";
import { evictionElement } from "./evictions.js";
import { age, dateTime } from "./time.js";
import {
  createdOf, flavorOf, hostOf, isDeletable, isOurs, isPractisable, isReleasable, isWithoutRow, keyOf, kindOf, nameOf,
  positionOf, stateOf, statusNote, toneOf,
} from "./vm.js";
import { certaintyOfNotice, criterionOf, preemptorOf, sentenceOf } from "./event_text.js";

const KIND_WORDS = { standard: "standard", preemptible: "preemptible", foreign: "not made by vmsvc" };
const NO_RECORD = "made by vmsvc, but no record here knows it: see docs/how-to/runbook.md, “The database is lost”";
const HISTORY = 200;
const MOST_EVICTIONS = 20;
const ACTIONS = { remove: "details-delete", practise: "details-practise", release: "details-release" };

/**
 * All about one VM: its facts, its evictions with their timelines, its history, its JSON.
 *
 * Dispatches `remove`, `practise` and `release` (detail: the VM), and `closed`.
 */
export class DetailsDialog extends EventTarget {
  #api;
  #clock;
  #find;
  #health;
  #access;
  #dialog = byId("details-dialog");
  #vm = null;

  constructor(api, clock, find, health, access) {
    super();
    this.#api = api;
    this.#clock = clock;
    this.#find = find;
    this.#health = health;
    this.#access = access;
    closable(this.#dialog);
    this.#dialog.addEventListener("close", () => this.dispatchEvent(new CustomEvent("closed")));
    for (const [action, id] of Object.entries(ACTIONS)) {
      byId(id).addEventListener("click", () => {
        this.#dialog.close();
        this.dispatchEvent(new CustomEvent(action, { detail: this.#vm }));
      });
    }
  }

  /** Show a VM; `json` is shown under "As JSON", by default the VM. */
  show(vm, json = vm) {
    byId("details-history").replaceChildren();
    byId("details-evictions").replaceChildren();
    byId("details-evictions").hidden = true;
    byId("details-json").textContent = JSON.stringify(json, null, 2);
    this.#write(vm);
    this.#dialog.showModal();
  }

  /** A VM has changed: show its new state if it is the one that is shown. */
  refresh(vm) {
    if (this.#dialog.open && keyOf(vm) === keyOf(this.#vm)) {
      this.#write(vm);
    }
  }

  #write(vm) {
    this.#vm = vm;
    byId("details-title").textContent = nameOf(vm);
    byId("details-facts").replaceChildren(...this.#facts(vm));
    const { mayWrite } = this.#access;
    byId("details-delete").hidden = !mayWrite || !isDeletable(vm);
    byId("details-practise").hidden = !mayWrite || !isPractisable(vm);
    byId("details-release").hidden = !mayWrite || !isReleasable(vm);
    this.#showHistory(vm);
    this.#showEvictions(vm);
  }

  #facts(vm) {
    const created = createdOf(vm);
    const now = this.#clock.now();
    const state = stateOf(vm);
    const deadline = Date.parse(vm.evict_at ?? "");
    const facts = [
      ["State", el("span", { class: "chip", "data-tone": toneOf(state) }, state), this.#health.reasonFor(state) || statusNote(vm)],
      ["Kind", isWithoutRow(vm) ? NO_RECORD : KIND_WORDS[kindOf(vm)]],
      ["Flavor", flavorOf(vm)],
      ["Host", hostOf(vm)],
      ["Image", typeof vm.image === "object" ? vm.image?.id : vm.image],
      ["Network", vm.network],
      ["Addresses", addressesOf(vm)],
      ["Priority", kindOf(vm) === "preemptible" ? String(vm.priority ?? 0) : ""],
      ["Group", vm.group ? `${vm.group}, at most ${vm.max_unavailable ?? 1} at once` : ""],
      ["Created", dateTime(created), now === null || Number.isNaN(created) ? "" : `${age(now - created)} ago`],
      ["Position in the queue", Number.isNaN(positionOf(vm)) ? "" : String(positionOf(vm))],
      ["Waits until", state === "pending" ? dateTime(Date.parse(vm.wait_until ?? "")) : ""],
      ["Evicted at", dateTime(deadline)],
      ["Capacity for", state === "noticed" || state === "evicting" ? preemptorOf({ vm }, this.#find)?.name : ""],
      ["Decided by", criterionOf({ vm })],
      ["Certainty", certaintyOfNotice({ vm })],
      ["Fault", vm.fault?.message ?? vm.fault],
      ["Cloud's id", vm.id === vm.vmsvc_id ? "" : vm.id],
      ["vmsvc's id", isOurs(vm) ? vm.vmsvc_id : ""],
    ];
    return facts.filter(([, value]) => value).map(([term, value, note]) =>
      el("div", {}, el("dt", {}, term), el("dd", {}, value, note ? el("span", { class: "note" }, note) : "")));
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

function addressesOf({ addresses }) {
  return Object.entries(addresses ?? {})
    .flatMap(([network, ports]) => (Array.isArray(ports) ? ports : []).map(({ addr }) => `${addr} (${network})`))
    .join(", ");
}
