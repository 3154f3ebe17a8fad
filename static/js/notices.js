import { byId, closable } from "./dom.js";
import { spoken } from "./time.js";
import { isReleasable, keyOf, nameOf } from "./vm.js";
import { certaintyOfNotice, criterionOf, deadlineOf, graceOf, isLikely, preemptorOf } from "./event_text.js";
import { GroupCard, OUTCOMES, VictimCard } from "./notice_cards.js";

const TITLE = document.title;
// How long the outcome stays in sight.
const LINGER = 12_000;
const LEAST_WIDTH = 19; // of a card, in rem, as the style sheet has it
const GAP = 0.625;
const REST = "rest";

/**
 * The victims under notice: a countdown each, by the server's clock, then how each notice ended. They take one row of the
 * page: where there are more, those of one preemptor are one card, and a dialog shows each.
 *
 * Dispatches `open` and `release` (detail: the VM).
 */
export class Notices extends EventTarget {
  #store;
  #clock;
  #announcer;
  #access;
  #notices = new Map();
  #list = byId("notice-list");
  #dialog = byId("notices-dialog");
  #all = byId("notices-all");
  #cards = new Map(); // by list and key
  #shownGroup = null;

  constructor(store, clock, announcer, access) {
    super();
    this.#access = access;
    this.#store = store;
    this.#clock = clock;
    this.#announcer = announcer;
    store.addEventListener("event", ({ detail }) => this.#eventReceived(detail.event, detail.vm));
    store.addEventListener("replaced", () => this.#syncWithList());
    closable(this.#dialog);
    new ResizeObserver(() => this.#arrange()).observe(document.body);
  }

  /** Take notices from the list: those given before the page was opened, and those that ended while it was away. */
  #syncWithList() {
    for (const vm of this.#store.all().filter(({ state }) => ["noticed", "evicting"].includes(state))) {
      if (!this.#notices.has(keyOf(vm))) {
        this.#add(vm, { vm, state: vm.state });
      }
    }
    for (const [key, notice] of this.#notices) {
      const state = this.#store.get(key)?.state;
      if (!notice.outcome && !["noticed", "evicting"].includes(state)) {
        this.#end(key, state === "active" ? "reprieved" : "evicted");
      }
    }
    this.#arrange();
  }

  #eventReceived({ data }, vm) {
    const key = keyOf(vm);
    if (data.state === "noticed") {
      this.#add(vm, data);
      const { deadline, preemptor } = this.#notices.get(key);
      const left = deadline - (this.#clock.now() ?? deadline);
      this.#announcer.say(`${nameOf(vm)} will be evicted in ${spoken(left)}${
        preemptor ? ` to free capacity for ${preemptor.name}` : ""}.`, "VMs got their notice");
    } else if (OUTCOMES[data.state] && this.#notices.has(key)) {
      this.#end(key, data.state);
      this.#announcer.say(`${nameOf(vm)}: ${OUTCOMES[data.state].toLowerCase()}.`,
        `VMs: ${OUTCOMES[data.state].toLowerCase()}`);
    } else if (this.#notices.has(key)) {
      this.#notices.get(key).state = data.state;
    } else {
      return;
    }
    this.#arrange();
  }

  #add(vm, data) {
    const deadline = deadlineOf(data);
    const preemptor = preemptorOf(data, id => this.#store.get(id));
    const simulated = data.simulated ?? vm.notice?.simulated;
    const why = preemptor ? "" : String(data.reason || (simulated ? "practice" : "its lifetime ends"));
    this.#forget(keyOf(vm));
    this.#notices.set(keyOf(vm), {
      vm, deadline, preemptor, why, state: data.state, outcome: null,
      group: preemptor?.id ?? why, groupName: preemptor?.name ?? why,
      criterion: criterionOf(data), certainty: isLikely({ ...data, vm }) && certaintyOfNotice({ ...data, vm }),
      then: data.notice_only ?? vm.notice?.notice_only ? "it is reprieved" : "",
      // Where the event does not say, what is left now counts as the whole.
      grace: graceOf(data) || deadline - (this.#clock.now() ?? deadline),
    });
  }

  #end(key, outcome) {
    const notice = this.#notices.get(key);
    notice.outcome = outcome;
    setTimeout(() => {
      if (this.#notices.get(key) === notice) {
        this.#forget(key);
        this.#arrange();
      }
    }, LINGER);
  }

  #forget(key) {
    this.#notices.delete(key);
    for (const list of [this.#list, this.#all]) {
      this.#cards.get(list)?.delete(key);
    }
  }

  /** The next deadline comes first. */
  #arrange() {
    const notices = [...this.#notices.values()].sort((one, other) => one.deadline - other.deadline);
    byId("notices").hidden = notices.length === 0;
    document.title = notices.length ? `(${notices.length}) ${TITLE}` : TITLE;
    this.#fill(this.#list, this.#row(notices));
    if (this.#dialog.open) {
      const shown = notices.filter(({ group }) => this.#shownGroup === null || group === this.#shownGroup);
      this.#fill(this.#all, shown.map(notice => this.#victim(this.#all, notice)));
      byId("notices-none").hidden = shown.length > 0;
    }
    this.tick();
  }

  /** The cards of the row: one for each victim where they fit, else one for each preemptor, and one for the rest. */
  #row(notices) {
    const places = this.#places();
    if (notices.length <= places) {
      return notices.map(notice => this.#victim(this.#list, notice));
    }
    const groups = [...Map.groupBy(notices, ({ group }) => group)];
    const shown = groups.length <= places ? groups : groups.slice(0, places - 1);
    const rest = groups.slice(shown.length);
    const cards = shown.map(([group, victims]) => victims.length === 1 ? this.#victim(this.#list, victims[0])
      : this.#group(`group:${group}`, group, victims[0].groupName, victims));
    return rest.length ? [...cards, this.#group(REST, null, shown.length ? `${rest.length} more` : "All",
      rest.flatMap(([, victims]) => victims))] : cards;
  }

  /** How many cards one row has; on a phone, where a row is one card, two rows. */
  #places() {
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const columns = Math.floor((this.#list.clientWidth / rem + GAP) / (LEAST_WIDTH + GAP));
    return Math.max(2, columns);
  }

  #card(list, key, make) {
    const cards = this.#cards.get(list) ?? new Map();
    this.#cards.set(list, cards);
    if (!cards.has(key)) {
      cards.set(key, make());
    }
    return cards.get(key);
  }

  #victim(list, notice) {
    const key = keyOf(notice.vm);
    const find = () => this.#store.get(key);
    const send = type => this.dispatchEvent(new CustomEvent(type, { detail: find() ?? notice.vm }));
    const mayRelease = () => this.#access.mayWrite && isReleasable(find() ?? {});
    return this.#card(list, key, () => new VictimCard(notice, send, mayRelease));
  }

  #group(key, group, title, notices) {
    const card = this.#card(this.#list, key, () => new GroupCard(() => this.#open(group)));
    card.update(title, notices);
    return card;
  }

  /** Show the victims of a preemptor each, or all (null). */
  #open(group) {
    const notice = [...this.#notices.values()].find(one => one.group === group);
    this.#shownGroup = group;
    byId("notices-dialog-title").textContent = notice?.preemptor ? `Capacity for ${notice.groupName}`
      : notice?.why ? `Notices: ${notice.why}` : "Notices";
    this.#dialog.showModal();
    this.#arrange();
  }

  #fill(list, cards) {
    const elements = cards.map(({ element }) => element);
    if (elements.length !== list.children.length || elements.some((element, index) => list.children[index] !== element)) {
      const focused = list.contains(document.activeElement) ? document.activeElement : null;
      list.replaceChildren(...elements);
      focused?.focus();
    }
  }

  /** Show what is left now. */
  tick() {
    const now = this.#clock.now();
    for (const cards of this.#cards.values()) {
      for (const card of cards.values()) {
        if (card.element.isConnected) {
          card.tick(now);
        }
      }
    }
  }
}
