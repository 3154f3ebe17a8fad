import { FINAL, keyOf, positionOf, stateOf } from "./vm.js";

// How long a VM that is gone stays in sight, so that a person sees its final state.
const LINGER = 10_000;

/**
 * The VMs. The list fills it, events keep it up to date.
 *
 * Dispatches `change` when a row was added, changed or removed, `replaced` when the list was read anew, and `event`
 * (detail: {event, vm}) for each event after it was applied.
 */
export class Store extends EventTarget {
  #vms = new Map();
  #gone = new Map();
  #buffered = null;

  get size() {
    return this.#vms.size;
  }

  /** The VM with this key (the cloud's id is tried as well), or undefined. */
  get(id) {
    return this.#vms.get(id) ?? this.all().find(vm => vm.id === id);
  }

  all() {
    return [...this.#vms.values()];
  }

  /**
   * Read the list anew: `list()` resolves with {servers, seq}. Events that come meanwhile are applied to the list
   * afterwards, for its rows are as old as its `seq`. Returns that seq, or rejects as `list` did.
   */
  async read(list) {
    const buffered = this.#buffered = [];
    try {
      const { servers, seq } = await list();
      this.#replace(servers, buffered.filter(({ data }) => data.seq > seq));
      return seq;
    } finally {
      this.#buffered = null;
    }
  }

  apply(event) {
    this.#buffered?.push(event);
    const vm = this.#write(event);
    this.dispatchEvent(new CustomEvent("event", { detail: { event, vm } }));
    this.dispatchEvent(new CustomEvent("change"));
  }

  /** A VM has changed without an event. */
  put(vm) {
    this.#vms.set(keyOf(vm), { ...this.#vms.get(keyOf(vm)), ...vm });
    this.dispatchEvent(new CustomEvent("change"));
  }

  /** Remove what has been gone for long enough. */
  sweep() {
    const limit = performance.now() - LINGER;
    const due = [...this.#gone].filter(([, since]) => since < limit);
    for (const [key] of due) {
      this.#gone.delete(key);
      this.#vms.delete(key);
    }
    if (due.length) {
      this.dispatchEvent(new CustomEvent("change"));
    }
  }

  #replace(servers, later) {
    // Rows that are gone keep their last seconds in sight.
    const lingering = [...this.#gone.keys()].map(key => [key, this.#vms.get(key)]);
    this.#vms = new Map([...lingering, ...servers.map(vm => [keyOf(vm), vm])]);
    later.forEach(event => this.#write(event));
    this.dispatchEvent(new CustomEvent("replaced"));
    this.dispatchEvent(new CustomEvent("change"));
  }

  #write({ data, subject }) {
    const view = data.vm ?? { id: subject };
    const key = keyOf(view);
    const state = view.state ?? (data.state === "reprieved" ? "active" : data.state);
    const vm = { ...this.#vms.get(key), ...view, state };
    if (data.state === "noticed") {
      vm.evict_at = data.evict_at ?? view.evict_at;
    } else if (!["noticed", "evicting"].includes(vm.state)) {
      vm.evict_at = null;
    }
    const before = positionOf(this.#vms.get(key) ?? {});
    vm.position = data.state === "queued" ? data.position : null;
    this.#vms.set(key, vm);
    this.#moveUp(key, before, positionOf(vm));
    if (FINAL.has(stateOf(vm))) {
      this.#gone.set(key, performance.now());
    } else {
      this.#gone.delete(key);
    }
    return vm;
  }

  /** A change of position is no event: those behind one that has left the queue move up, those behind a new one back. */
  #moveUp(key, left, came) {
    if (Number.isNaN(left) && Number.isNaN(came)) {
      return;
    }
    for (const [other, vm] of this.#vms) {
      if (other !== key && !Number.isNaN(positionOf(vm))) {
        vm.position -= vm.position > left;
        vm.position += vm.position >= came;
      }
    }
  }
}
