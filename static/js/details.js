import { byId, closable, el } from "./dom.js";
import { age, dateTime } from "./time.js";
import {
  createdOf, flavorOf, hostOf, isDeletable, isOurs, keyOf, kindOf, nameOf, stateOf, statusNote, toneOf,
} from "./vm.js";
import { criterionOf, preemptorOf, sentenceOf } from "./words.js";

const KIND_WORDS = { standard: "standard", preemptible: "preemptible", foreign: "not made by vmsvc" };
const HISTORY = 200;

/** All about one VM: its facts, its history, its JSON. Dispatches `remove` (detail: the VM) and `closed`. */
export class DetailsDialog extends EventTarget {
  #api;
  #clock;
  #find;
  #dialog = byId("details-dialog");
  #vm = null;

  constructor(api, clock, find) {
    super();
    this.#api = api;
    this.#clock = clock;
    this.#find = find;
    closable(this.#dialog);
    this.#dialog.addEventListener("close", () => this.dispatchEvent(new CustomEvent("closed")));
    byId("details-delete").addEventListener("click", () => {
      this.#dialog.close();
      this.dispatchEvent(new CustomEvent("remove", { detail: this.#vm }));
    });
  }

  /** Show a VM; `json` is what stands under "As JSON", by default the VM. */
  show(vm, json = vm) {
    byId("details-history").replaceChildren();
    byId("details-json").textContent = JSON.stringify(json, null, 2);
    this.#write(vm);
    this.#dialog.showModal();
  }

  /** Something happened to a VM: if it is the one that is shown, show what it is now. */
  hear(vm) {
    if (this.#dialog.open && keyOf(vm) === keyOf(this.#vm)) {
      this.#write(vm);
    }
  }

  #write(vm) {
    this.#vm = vm;
    byId("details-title").textContent = nameOf(vm);
    byId("details-facts").replaceChildren(...this.#facts(vm));
    byId("details-delete").hidden = !isDeletable(vm);
    this.#tell(vm);
  }

  #facts(vm) {
    const created = createdOf(vm);
    const now = this.#clock.now();
    const state = stateOf(vm);
    const deadline = Date.parse(vm.evict_at ?? "");
    const facts = [
      ["State", el("span", { class: "chip", "data-tone": toneOf(state) }, state), statusNote(vm)],
      ["Kind", KIND_WORDS[kindOf(vm)]],
      ["Flavor", flavorOf(vm)],
      ["Host", hostOf(vm)],
      ["Image", typeof vm.image === "object" ? vm.image?.id : vm.image],
      ["Network", vm.network],
      ["Addresses", addressesOf(vm)],
      ["Priority", kindOf(vm) === "preemptible" ? String(vm.priority ?? 0) : ""],
      ["Created", dateTime(created), now === null || Number.isNaN(created) ? "" : `${age(now - created)} ago`],
      ["Evicted at", dateTime(deadline)],
      ["Room for", state === "noticed" || state === "evicting" ? preemptorOf({ vm }, this.#find)?.name : ""],
      ["Decided by", criterionOf({ vm })],
      ["Fault", vm.fault?.message ?? vm.fault],
      ["Cloud's id", vm.id === vm.vmsvc_id ? "" : vm.id],
      ["vmsvc's id", isOurs(vm) ? vm.vmsvc_id : ""],
    ];
    return facts.filter(([, value]) => value).map(([term, value, note]) =>
      el("div", {}, el("dt", {}, term), el("dd", {}, value, note ? el("span", { class: "note" }, note) : "")));
  }

  async #tell(vm) {
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
