import { byId, closable, el, write } from "./dom.js";
import { csvOf, download } from "./download.js";
import { reasonOf } from "./evictions.js";
import { parameterOf, vmLink, writeParameters } from "./navigation.js";
import { dateTime, lasted } from "./time.js";
import { toneOf } from "./vm.js";

const HASH = "#evictions";
const PAGE = 500;
const MOST_PAGES = 20;
const MOST_ROWS = 1000;
const DAY = 86_400_000;
const ME = "@me";
// The controls, and how the page's address calls what they have.
const FILTERS = { "evictions-text": "eq", "evictions-state": "estate", "evictions-owner": "eowner", "evictions-days": "edays" };
const FILE = "evictions";
const FIELDS = {
  planned_at: record => record.planned_at, vm: ({ vm }) => vm.name, vm_id: ({ vm }) => vm.id, owner: ({ owner }) => owner,
  preemptor: ({ request }) => request?.name, preemptor_id: ({ request }) => request?.id, reason: ({ reason }) => reason,
  criterion: ({ criterion }) => criterion, state: ({ state }) => state, evict_at: record => record.evict_at,
  evicting_at: record => record.evicting_at, freed_at: record => record.freed_at, reprieved_at: record => record.reprieved_at,
};

/**
 * The record of evictions: which VM, when, for whom, and what came of it. An evicted VM is found here when no list has it
 * any more.
 */
export class EvictionsDialog {
  #api;
  #access;
  #dialog = byId("evictions-dialog");
  #rows = byId("evictions-rows");
  #records = [];
  #shown = [];
  #reading = 0;

  constructor(api, access) {
    this.#api = api;
    this.#access = access;
    closable(this.#dialog);
    for (const [id, name] of Object.entries(FILTERS)) {
      byId(id).value = parameterOf(name) || byId(id).value;
      byId(id).addEventListener("input", () => {
        writeParameters({ [name]: byId(id).value });
        id === "evictions-days" ? this.#read() : this.#arrange();
      });
    }
    byId("evictions-csv").addEventListener("click", () => this.#export("csv"));
    byId("evictions-json").addEventListener("click", () => this.#export("json"));
  }

  open() {
    this.#dialog.showModal();
    this.#read();
  }

  /** As a place with an address. */
  get place() {
    return {
      dialog: this.#dialog, hash: () => HASH,
      show: hash => { if (hash !== HASH) { return false; } return this.#dialog.open || this.open(); },
    };
  }

  /** Read the record back to the beginning of the chosen days; what has come is shown at once. */
  async #read() {
    const reading = this.#reading += 1;
    const days = Number(byId("evictions-days").value);
    const since = days ? Date.now() - days * DAY : -Infinity;
    this.#records = [];
    this.#say("Reading…");
    try {
      for (let page = 0, before = null; page < MOST_PAGES && (page === 0 || before); page += 1) {
        const answer = await this.#api.evictions({ limit: PAGE, ...(before ? { before } : {}) });
        if (reading !== this.#reading) {
          return; // other days were chosen meanwhile
        }
        const recent = answer.evictions.filter(({ planned_at: at }) => Date.parse(at) >= since);
        this.#records.push(...recent);
        before = recent.length === answer.evictions.length ? answer.before : null;
        this.#arrange();
      }
    } catch (error) {
      this.#say(`The record could not be read. ${error.message}`);
    }
  }

  #arrange() {
    const text = byId("evictions-text").value.trim().toLowerCase();
    const state = byId("evictions-state").value;
    const mine = byId("evictions-owner").value === ME;
    this.#shown = this.#records.filter(record => (!state || record.state === state)
      && (!mine || record.owner === this.#access.name) && (!text || haystack(record).includes(text)));
    this.#rows.replaceChildren(...this.#shown.slice(0, MOST_ROWS).map(rowElement));
    const count = this.#shown.length;
    this.#say(count > MOST_ROWS ? `The newest ${MOST_ROWS.toLocaleString()} are shown. A saved file has up to the newest 10,000.` : count ? "" : this.#records.length ? "No eviction matches." : "No VM was evicted, or noticed, in this time.");
    write(byId("evictions-count"), count === this.#records.length ? count.toLocaleString()
      : `${count.toLocaleString()} of ${this.#records.length.toLocaleString()}`);
    for (const id of ["evictions-csv", "evictions-json"]) {
      byId(id).disabled = count === 0;
    }
  }

  #say(text) {
    write(byId("evictions-empty"), text);
    byId("evictions-empty").hidden = !text;
  }

  /** Save what is shown: as a table, or as the service has it. */
  #export(form) {
    if (form === "json") {
      download(`${FILE}.json`, "application/json", JSON.stringify(this.#shown, null, 2));
    } else {
      download(`${FILE}.csv`, "text/csv", csvOf([Object.keys(FIELDS),
        ...this.#shown.map(record => Object.values(FIELDS).map(of => of(record)))]));
    }
  }
}

function haystack({ vm, request, owner, criterion, reason }) {
  return [vm.name, vm.id, vm.vmsvc_id, request?.name, request?.id, request?.vmsvc_id, owner, criterion, reason].join("\n").toLowerCase();
}

function rowElement(record) {
  const { vm, request, owner, criterion, state, planned_at: planned } = record;
  const end = record.freed_at ?? record.reprieved_at;
  return el("tr", {},
    el("td", {}, el("time", { datetime: planned }, dateTime(Date.parse(planned)))),
    el("th", { scope: "row" }, vmLink(vm.vmsvc_id, vm.name)),
    el("td", { class: "owner", dir: "auto" }, owner ?? ""),
    el("td", {}, request ? vmLink(request.vmsvc_id, request.name) : reasonOf(record)),
    el("td", { class: "criterion" }, criterion ?? ""),
    el("td", {}, el("span", { class: "chip", "data-tone": toneOf(state) }, state),
      end ? el("span", { class: "note" }, `after ${lasted(Date.parse(end) - Date.parse(planned))}`) : ""));
}
