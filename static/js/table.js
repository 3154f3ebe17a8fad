import { arrange, COLUMNS } from "./columns.js";
import { byId, el, mark, write } from "./dom.js";
import { parameterOf, writeParameters } from "./navigation.js";
import { Rows } from "./rows.js";
import { age, countdown } from "./time.js";
import {
  createdOf, flavorOf, hostOf, isDeletable, isOurs, isPractisable, isReleasable, isWithoutRow, keyOf, kindOf, nameOf,
  positionOf, restartsLeftOf, stateOf, statusNote, toneOf,
} from "./vm.js";

const KIND_WORDS = { standard: "Standard", preemptible: "Preemptible", foreign: "Not ours" };
const NO_ROWS = "No VM matches the filter.";
const NO_VMS = "No VMs yet. Create the first one.";

// The controls of the filter, and how the page's address calls what they have.
const FILTERS = { "filter-text": "q", "filter-kind": "kind", "filter-state": "state", "filter-owner": "owner" };
const MINE = "@me";
const NOBODY = "anonymous"; // the owner of all VMs where authentication is off

const OTHERS = {
  practise: { sign: "◷", words: name => `Practise the eviction of ${name}` },
  release: { sign: "✓", words: name => `Release ${name} early` },
};

/** The order of the table by its name in the address: a column, with a minus when it is descending. */
function sortOf(text) {
  const column = text.replace(/^-/, "");
  return COLUMNS.some(({ name }) => name === column) ? { column, descending: text.startsWith("-") } : { column: "age", descending: false };
}

function restartsNote(vm) {
  const left = restartsLeftOf(vm);
  return [vm.restarts && `started again ${vm.restarts} ${vm.restarts === 1 ? "time" : "times"}`,
    Number.isNaN(left) ? "" : `${left} restarts left`].filter(Boolean).map(text => `\n${text}`).join("");
}

/**
 * The table of VMs: sorted, filtered, driven by keys. The grid keeps the focus and names the active row
 * (`aria-activedescendant`), because rows come and go while it is scrolled.
 *
 * Dispatches `open`, `remove`, `practise` and `release` (detail: the VM).
 */
export class Table extends EventTarget {
  #store;
  #clock;
  #health;
  #access;
  #grid = byId("vm-grid");
  #sort = sortOf(parameterOf("sort"));
  #active = null;
  #ids = 0;
  #rows;
  #frame = 0;
  #states = "";
  #owners = null;
  #loaded = false;

  constructor(store, clock, health, access) {
    super();
    this.#access = access;
    this.#store = store;
    this.#clock = clock;
    this.#health = health;
    this.#rows = new Rows({ scroller: this.#grid, body: byId("vm-rows"), make: vm => this.#makeRow(vm), keyOf });
    this.#makeHead();
    for (const [id, name] of Object.entries(FILTERS)) {
      this.#readFilter(byId(id), parameterOf(name));
      byId(id).addEventListener("input", () => {
        writeParameters({ [name]: byId(id).value });
        this.#grid.scrollTop = 0;
        this.draw();
      });
    }
    this.#grid.addEventListener("keydown", event => this.#key(event));
    store.addEventListener("change", () => this.draw());
    access.addEventListener("change", () => this.draw());
    store.addEventListener("replaced", () => { this.#loaded = true; });
  }

  /** Give the table the focus, for example when a dialog about one of its rows has closed. */
  focus() {
    this.#grid.focus();
  }

  /** Show the ages of now. */
  tick() {
    this.#rows.draw();
  }

  /** As long as there is no list, show this text in place of rows. */
  explain(text) {
    if (!this.#loaded) {
      write(byId("vm-empty"), text);
    }
  }

  /** Arrange and draw before the next frame, once however many events came. */
  draw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#arrange();
    });
  }

  #arrange() {
    if (!this.#loaded) {
      return;
    }
    const vms = this.#store.all();
    this.#offerStates(vms);
    this.#offerOwners(vms);
    const owner = byId("filter-owner").value;
    const filter = {
      text: byId("filter-text").value, kind: byId("filter-kind").value, state: byId("filter-state").value,
      owner: owner === MINE ? this.#access.name : owner,
    };
    const shown = arrange(vms, filter, this.#sort);
    this.#rows.set(shown);
    this.#grid.setAttribute("aria-rowcount", shown.length + 1);
    write(byId("vm-count"), shown.length === vms.length
      ? vms.length.toLocaleString() : `${shown.length.toLocaleString()} of ${vms.length.toLocaleString()}`);
    byId("vm-empty").hidden = shown.length > 0;
    write(byId("vm-empty"), vms.length ? NO_ROWS : NO_VMS);
    this.#activate(shown.some(vm => keyOf(vm) === this.#active) ? this.#active : null);
  }

  #offerStates(vms) {
    const select = byId("filter-state");
    const states = [...new Set([...vms.map(stateOf), ...(select.value ? [select.value] : [])])].sort();
    if (states.join() !== this.#states) {
      this.#states = states.join();
      const chosen = select.value;
      select.replaceChildren(new Option("All states", ""),
        ...states.map(state => new Option(state[0].toUpperCase() + state.slice(1), state)));
      select.value = chosen;
    }
  }

  /** Who has VMs; where all are nobody's, there is neither a column nor a filter. */
  #offerOwners(vms) {
    const { name } = this.#access;
    const owners = [...new Set(vms.map(({ owner }) => owner).filter(Boolean))].sort();
    const shown = owners.some(owner => owner !== NOBODY) || ![NOBODY, ""].includes(name);
    const select = byId("filter-owner");
    select.hidden = !shown && !select.value;
    mark(this.#grid, "data-owners", shown);
    if ([name, ...owners].join("\n") !== this.#owners) {
      this.#owners = [name, ...owners].join("\n");
      const chosen = select.value;
      const offered = chosen && chosen !== MINE && !owners.includes(chosen) ? [...owners, chosen] : owners;
      select.replaceChildren(new Option("All owners", ""), new Option(name ? `Mine (${name})` : "Mine", MINE),
        ...offered.map(owner => new Option(owner, owner)));
      select.value = chosen;
    }
  }

  #makeHead() {
    const heads = COLUMNS.map(({ name, title }) => {
      const button = el("button", { type: "button", "data-column": name }, title);
      button.addEventListener("click", () => this.#sortBy(name));
      return el("div", { role: "columnheader", class: `cell ${name}` }, button);
    });
    byId("vm-columns").replaceChildren(...heads,
      el("div", { role: "columnheader", class: "cell actions" }, el("span", { class: "unseen" }, "Actions")));
    this.#markSort();
  }

  /** What the address says; a state that no VM is in now can still be chosen. */
  #readFilter(control, text) {
    if (text && ["filter-state", "filter-owner"].includes(control.id) && ![...control.options].some(({ value }) => value === text)) {
      control.append(new Option(text, text));
    }
    control.value = text;
    if (control.selectedIndex === -1) {
      control.value = ""; // an address that was written by hand
    }
  }

  #sortBy(column) {
    this.#sort = { column, descending: this.#sort.column === column && !this.#sort.descending };
    writeParameters({ sort: `${this.#sort.descending ? "-" : ""}${column}` });
    this.#markSort();
    this.#grid.scrollTop = 0;
    this.draw();
  }

  #markSort() {
    for (const head of byId("vm-columns").children) {
      const sorted = head.firstElementChild?.dataset.column === this.#sort.column;
      mark(head, "aria-sort", sorted ? (this.#sort.descending ? "descending" : "ascending") : null);
    }
  }

  #makeRow(first) {
    let vm = first;
    const cells = Object.fromEntries(COLUMNS.map(({ name }) =>
      [name, el("div", { role: "gridcell", class: `cell ${name}`, dir: ["name", "owner"].includes(name) ? "auto" : null })]));
    const chip = el("span", { class: "chip" });
    const note = el("span", { class: "note" });
    cells.state.append(chip, note);
    const [remove, other] = ["✕", ""].map(sign => el("button", { type: "button", class: "row-action", tabindex: "-1" },
      el("span", { "aria-hidden": "true" }, sign)));
    remove.classList.add("row-delete");
    other.classList.add("row-other");
    const element = el("div", { role: "row", class: "vm-row", id: `vm-${this.#ids += 1}` },
      ...Object.values(cells), el("div", { role: "gridcell", class: "cell actions" }, other, remove));
    element.addEventListener("click", event => {
      this.#activate(keyOf(vm));
      const button = event.target.closest("button");
      this.#send(button === remove ? "remove" : (button === other ? this.#otherOf(vm) : "open"), vm);
    });
    const update = (item, index) => {
      vm = item;
      mark(element, "aria-rowindex", index + 2);
      mark(element, "data-active", keyOf(vm) === this.#active);
      this.#write(vm, cells, { chip, note, remove, other });
    };
    return { element, update };
  }

  #write(vm, cells, { chip, note, remove, other }) {
    const state = stateOf(vm);
    const kind = kindOf(vm);
    const now = this.#clock.now();
    write(cells.name, nameOf(vm));
    mark(cells.name, "data-restarts", vm.restarts || null);
    mark(cells.name, "title", `${nameOf(vm)}\n${vm.id}${restartsNote(vm)}`);
    write(cells.kind, isWithoutRow(vm) ? "No record" : KIND_WORDS[kind]);
    mark(cells.kind, "data-kind", kind);
    write(chip, state);
    mark(chip, "data-tone", toneOf(state));
    write(note, this.#noteOf(vm, state, now));
    mark(note, "title", note.textContent || null);
    write(cells.flavor, flavorOf(vm));
    write(cells.host, hostOf(vm));
    write(cells.owner, vm.owner ?? "");
    write(cells.priority, kind === "preemptible" ? String(vm.priority ?? 0) : "");
    write(cells.age, now === null ? "" : age(now - createdOf(vm)));
    remove.disabled = !this.#mayRemove(vm);
    mark(remove, "aria-label", `Delete ${nameOf(vm)}`);
    mark(remove, "title", isOurs(vm) ? "Delete" : "Not made by vmsvc");
    const { sign, words } = OTHERS[this.#otherOf(vm)] ?? { sign: "", words: () => "" };
    other.hidden = !sign;
    write(other.firstElementChild, sign);
    mark(other, "aria-label", words(nameOf(vm)) || null);
    mark(other, "title", words("it") || null);
  }

  /** What is left of its notice; its position in the queue, with what is left of its wait; or what it waits for. */
  #noteOf(vm, state, now) {
    if (state === "noticed" && now !== null) {
      return countdown(Date.parse(vm.evict_at) - now);
    }
    const position = positionOf(vm);
    const until = Date.parse(vm.wait_until ?? "");
    if (Number.isNaN(position)) {
      return this.#health.reasonFor(state) || statusNote(vm);
    }
    return now === null || Number.isNaN(until) ? `no. ${position}` : `no. ${position} · ${countdown(until - now)}`;
  }

  #mayRemove(vm) {
    return this.#access.mayWrite && isDeletable(vm);
  }

  /** What else the viewer may do to a VM now, or null. */
  #otherOf(vm) {
    return this.#access.mayWrite ? (isReleasable(vm) && "release") || (isPractisable(vm) && "practise") || null : null;
  }

  #activate(key) {
    this.#active = key;
    this.#rows.draw();
    // The row's element may come with the next frame.
    requestAnimationFrame(() => mark(this.#grid, "aria-activedescendant",
      byId("vm-rows").querySelector("[data-active]")?.id));
  }

  #key(event) {
    if (event.target !== this.#grid || event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    const { items } = this.#rows;
    const at = items.findIndex(vm => keyOf(vm) === this.#active);
    const page = Math.max(1, Math.floor(this.#grid.clientHeight / this.#rows.height) - 1);
    const to = {
      ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: items.length - 1,
    }[event.key];
    if (to !== undefined && items.length) {
      event.preventDefault();
      const index = Math.min(Math.max(to, 0), items.length - 1);
      this.#rows.reveal(index);
      this.#activate(keyOf(items[index]));
    } else if (at >= 0 && event.key === "Enter") {
      // Else the same key would press the button that has the focus in the dialog it opens.
      event.preventDefault();
      this.#send("open", items[at]);
    } else if (at >= 0 && event.key === "Delete") {
      this.#send("remove", items[at]);
    }
  }

  #send(type, vm) {
    if (type === "open" || type === this.#otherOf(vm) || (type === "remove" && this.#mayRemove(vm))) {
      this.dispatchEvent(new CustomEvent(type, { detail: vm }));
    }
  }
}
