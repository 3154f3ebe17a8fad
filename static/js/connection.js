import { byId, mark, write } from "./dom.js";

const WORDS = { connecting: "Connecting…", live: "Live", stopped: "Stopped" };

/** The lamp in the header: whether what is seen is live and true, and when the next attempt is if it is not. */
export class Connection {
  #health;
  #state = { name: "connecting", retryAt: null };

  constructor(stream, health) {
    this.#health = health;
    stream.addEventListener("state", ({ detail }) => {
      this.#state = detail;
      this.tick();
    });
  }

  /** There is not even a list yet: why. */
  explain(text) {
    this.#state = { name: "waiting", retryAt: null, text };
    this.tick();
  }

  /** Count down to the next attempt. */
  tick() {
    const { name, retryAt, text } = this.#state;
    const seconds = retryAt === null ? 0 : Math.max(0, Math.ceil((retryAt - performance.now()) / 1000));
    // Events come, but what they would tell does not happen.
    const impaired = name === "live" ? this.#health.headline : "";
    mark(byId("connection"), "data-state", impaired ? "impaired" : name);
    // A screen reader hears the change of state, not each second of the wait.
    write(byId("connection-text"), name === "waiting" ? text ?? "Connection lost" : impaired || WORDS[name]);
    write(byId("connection-retry"), name === "waiting" && seconds ? `again in ${seconds} s` : "");
    document.body.dataset.connection = name;
  }
}
