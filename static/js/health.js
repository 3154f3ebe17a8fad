import { byId, el, write } from "./dom.js";
import { age, clockTime } from "./time.js";

// Which parts of `GET /readyz` a person knows by which name.
const GROUPS = {
  Database: ["database", "doorbell", "retention", "deadlines", "webhooks"],
  Feed: ["feed", "pulse"],
  Service: ["proxies"],
};
// All other parts do nothing but talk to the cloud, or wait for it.
const OTHERS = "Cloud";
const HEADLINES = { Cloud: "The cloud does not answer", Database: "The database does not answer" };
// The states that end when the cloud does something.
const WAITING = new Set(["building", "evicting", "deleting"]);

const groupOf = part => Object.keys(GROUPS).find(group => GROUPS[group].includes(part)) ?? OTHERS;

/**
 * Whether the service can do its work: the strip under the header says what cannot, since when what is shown is old, and
 * when the service is asked again. It is hidden while all parts work.
 */
export class Health {
  #clock;
  #every;
  #strip = byId("health");
  #problems = new Map(); // group -> sentences
  #goodAt = null;
  #askedAt = 0;

  /** `every`: milliseconds between two questions; `askNow()` asks out of turn. */
  constructor(clock, every, askNow) {
    this.#clock = clock;
    this.#every = every;
    byId("health-now").addEventListener("click", askNow);
  }

  /** An answer of `GET /readyz`; null: none came, which the connection reports. */
  show(answer) {
    this.#askedAt = performance.now();
    const problems = new Map();
    for (const [part, text] of Object.entries(answer?.parts ?? {})) {
      if (text !== "ok" && !text.startsWith("ok;")) {
        const group = groupOf(part);
        problems.set(group, new Set([...problems.get(group) ?? [], text]));
      }
    }
    this.#problems = problems;
    if (answer && !this.cloudIsAway) {
      this.#goodAt = this.#clock.now();
    }
    this.#paint();
  }

  get cloudIsAway() {
    return this.#problems.has("Cloud") || this.#problems.has("Database");
  }

  /** What is wrong in a few words, or "". */
  get headline() {
    const [group] = this.#problems.keys();
    return group ? HEADLINES[group] ?? "A part of the service does not work" : "";
  }

  /** When all that is shown of the cloud was last known to be true, in milliseconds since the epoch; null: never. */
  get goodAt() {
    return this.#goodAt;
  }

  /** Why a VM in this state stays in it, or "". */
  reasonFor(state) {
    return this.cloudIsAway && WAITING.has(state) ? `waits for the ${this.#problems.has("Cloud") ? "cloud" : "database"}` : "";
  }

  #paint() {
    this.#strip.hidden = this.#problems.size === 0;
    document.body.dataset.health = this.#problems.size ? "impaired" : "good";
    byId("health-parts").replaceChildren(...["Cloud", "Database", "Feed", "Service"].flatMap(group => {
      const texts = this.#problems.get(group);
      return texts ? [el("li", {}, el("strong", {}, `${group}: `), [...texts].join("; "))] : [];
    }));
    this.tick();
  }

  /** Show how old what is shown is, and when the service is asked again. */
  tick() {
    if (this.#strip.hidden) {
      return;
    }
    const now = this.#clock.now();
    write(byId("health-age"), this.#goodAt === null || now === null ? "The cloud has not been read yet."
      : `The data on this page is from ${clockTime(this.#goodAt)}, ${age(now - this.#goodAt)} ago.`);
    const left = Math.max(0, Math.ceil((this.#askedAt + this.#every - performance.now()) / 1000));
    write(byId("health-retry"), left ? `Next check in ${left} s.` : "Checking…");
  }
}
