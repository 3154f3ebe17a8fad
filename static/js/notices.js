import { byId, el, mark, write } from "./dom.js";
import { clockTime, countdown, spoken } from "./time.js";
import { flavorOf, hostOf, isReleasable, keyOf, nameOf } from "./vm.js";
import { certaintyOfNotice, criterionOf, deadlineOf, graceOf, isLikely, preemptorOf } from "./event_text.js";

const TITLE = document.title;
// How long the outcome stays in sight.
const LINGER = 12_000;
const OUTCOMES = { evicted: "Evicted", reprieved: "Reprieved", deleted: "Deleted by its owner", lost: "Vanished" };

/**
 * The victims under notice: a countdown each, by the server's clock, then how each notice ended.
 *
 * Dispatches `open` and `release` (detail: the VM).
 */
export class Notices extends EventTarget {
  #store;
  #clock;
  #announcer;
  #cards = new Map();

  constructor(store, clock, announcer) {
    super();
    this.#store = store;
    this.#clock = clock;
    this.#announcer = announcer;
    store.addEventListener("event", ({ detail }) => this.#eventReceived(detail.event, detail.vm));
    store.addEventListener("replaced", () => this.#syncWithList());
  }

  /** Take notices from the list: those given before the page was opened, and those that ended while it was away. */
  #syncWithList() {
    for (const vm of this.#store.all().filter(({ state }) => ["noticed", "evicting"].includes(state))) {
      if (!this.#cards.has(keyOf(vm))) {
        this.#add(vm, { vm, state: vm.state });
      }
    }
    for (const [key, card] of this.#cards) {
      const state = this.#store.get(key)?.state;
      if (!card.outcome && !["noticed", "evicting"].includes(state)) {
        this.#end(key, state === "active" ? "reprieved" : "evicted");
      }
    }
  }

  #eventReceived({ data }, vm) {
    const key = keyOf(vm);
    if (data.state === "noticed") {
      this.#cards.get(key)?.element.remove();
      this.#add(vm, data);
      const left = deadlineOf(data) - (this.#clock.now() ?? deadlineOf(data));
      const preemptor = preemptorOf(data, id => this.#store.get(id));
      this.#announcer.say(`${nameOf(vm)} will be evicted in ${spoken(left)}${
        preemptor ? ` to free capacity for ${preemptor.name}` : ""}.`, "VMs were told that they will be evicted");
    } else if (OUTCOMES[data.state] && this.#cards.has(key)) {
      this.#end(key, data.state);
      this.#announcer.say(`${nameOf(vm)}: ${OUTCOMES[data.state].toLowerCase()}.`,
        `VMs: ${OUTCOMES[data.state].toLowerCase()}`);
    } else if (this.#cards.has(key)) {
      this.#cards.get(key).state = data.state;
      this.tick();
    }
  }

  #add(vm, data) {
    const clock = el("span", { class: "notice-clock", role: "timer", "aria-live": "off" });
    const bar = el("span");
    const preemptor = preemptorOf(data, id => this.#store.get(id));
    const criterion = criterionOf(data);
    const name = el("button", { type: "button", class: "notice-name" }, nameOf(vm));
    const release = el("button", { type: "button", class: "notice-release",
      "aria-label": `Release ${nameOf(vm)} early…`, title: "Its work is saved: release it before its time" }, "Release…");
    const send = type => () =>
      this.dispatchEvent(new CustomEvent(type, { detail: this.#store.get(keyOf(vm)) ?? vm }));
    name.addEventListener("click", send("open"));
    release.addEventListener("click", send("release"));
    const facts = el("dl", {});
    const deadline = deadlineOf(data);
    const addFact = (term, text) => text
      && facts.append(el("div", {}, el("dt", {}, term), el("dd", { title: text }, text)));
    const simulated = data.simulated ?? vm.notice?.simulated;
    addFact("Capacity for", preemptor?.name);
    addFact("Decided by", criterion);
    addFact("Certainty", isLikely({ ...data, vm }) && certaintyOfNotice({ ...data, vm }));
    addFact("Why", preemptor ? "" : data.reason || (simulated ? "practice" : "its lifetime ends"));
    addFact("Then", data.notice_only ?? vm.notice?.notice_only ? "it is reprieved" : "");
    mark(clock, "title", Number.isFinite(deadline) ? `Until ${clockTime(deadline)}` : null);
    const element = el("li", { class: "notice", "data-tone": "warn" },
      el("div", { class: "notice-head" }, name,
        el("span", { class: "note" }, [flavorOf(vm), hostOf(vm)].filter(Boolean).join(" on "))),
      clock, facts, release, el("span", { class: "notice-bar", "aria-hidden": "true" }, bar));
    this.#cards.set(keyOf(vm), {
      element, clock, bar, release, deadline, state: data.state, outcome: null,
      // Where the event does not say, what is left now counts as the whole.
      grace: graceOf(data) || deadline - (this.#clock.now() ?? deadline),
    });
    this.#arrange();
  }

  #end(key, outcome) {
    const card = this.#cards.get(key);
    card.outcome = outcome;
    this.tick();
    setTimeout(() => {
      if (this.#cards.get(key) === card) {
        this.#cards.delete(key);
        card.element.remove();
        this.#arrange();
      }
    }, LINGER);
  }

  /** The next deadline comes first. */
  #arrange() {
    const cards = [...this.#cards.values()].sort((one, other) => one.deadline - other.deadline);
    const list = byId("notice-list");
    cards.forEach(({ element }, index) => {
      if (list.children[index] !== element) {
        list.insertBefore(element, list.children[index] ?? null);
      }
    });
    byId("notices").hidden = cards.length === 0;
    document.title = cards.length ? `(${cards.length}) ${TITLE}` : TITLE;
    this.tick();
  }

  /** Show what is left now. */
  tick() {
    const now = this.#clock.now();
    for (const [key, { element, clock, bar, release, deadline, grace, state, outcome }] of this.#cards) {
      const left = now === null ? NaN : deadline - now;
      const waiting = state === "noticed" && left > 0;
      write(clock, outcome ? OUTCOMES[outcome] : (waiting ? countdown(left) : "Evicting"));
      release.hidden = !waiting || Boolean(outcome) || !isReleasable(this.#store.get(key) ?? {});
      mark(element, "data-tone", { reprieved: "good" }[outcome] ?? (outcome ? "gone" : (waiting ? "warn" : "leaving")));
      bar.style.transform = `scaleX(${outcome || !waiting ? 0 : Math.min(1, left / Math.max(grace, 1)).toFixed(3)})`;
    }
  }
}
