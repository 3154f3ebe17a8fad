import { Backoff } from "./backoff.js";

/** Close codes of the service's event channel. */
const SLOW = 4008; // we read too slowly: come back with `since`
const STALE = 4009; // `since` is older than the history: the list must be read anew
const RESTART = 1012; // the service restarts
const WHO_ARE_YOU = 4001; // come back with a new ticket

const STEADY = 5_000; // a connection that lived this long was a good one
const CHECK_EVERY = 30_000;
const CHECK_GRACE = 5_000;

/**
 * The events of the service in order, each once, over a WebSocket that comes back by itself.
 *
 * Dispatches `event` (detail: the CloudEvent), `state` (detail: {name, retryAt}, names `connecting`, `live`,
 * `waiting`, `stopped`) and `stale` when the history no longer reaches back to what was seen last: whoever listens
 * reads the list and calls `start` with its seq.
 */
export class EventStream extends EventTarget {
  #url;
  #latest;
  #socket = null;
  #attempt = 0;
  #timer = 0;
  #opened = 0;
  #backoff = new Backoff();

  /** `url(since)` resolves with where to connect; `latest(since)` with a later seq, or with `since`. */
  constructor({ url, latest }) {
    super();
    this.#url = url;
    this.#latest = latest;
    this.since = 0;
    setInterval(() => this.#check(), CHECK_EVERY);
    window.addEventListener("online", () => this.#hurry());
    document.addEventListener("visibilitychange", () => this.#hurry());
  }

  /** Connect, or connect anew, for what comes after `since`. */
  start(since) {
    this.since = since;
    this.#connect();
  }

  stop() {
    this.#forget();
    this.#say("stopped");
  }

  async #connect() {
    this.#forget();
    this.#say("connecting");
    const attempt = this.#attempt;
    const url = await this.#url(this.since).catch(() => null);
    if (attempt !== this.#attempt) {
      return; // meanwhile somebody else connects, or nobody wants to any more
    }
    if (url === null) {
      this.#lost();
      return;
    }
    const socket = new WebSocket(url);
    this.#socket = socket;
    // A socket that was given up may still speak: only the current one is heard.
    const current = handle => message => { if (socket === this.#socket) { handle(message); } };
    socket.addEventListener("open", current(() => this.#live()));
    socket.addEventListener("message", current(message => this.#take(JSON.parse(message.data))));
    socket.addEventListener("close", current(message => this.#lost(message.code)));
  }

  #forget() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#attempt += 1;
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #live() {
    this.#opened = performance.now();
    this.#say("live");
  }

  #take(event) {
    const seq = event.data?.seq ?? Number(event.id);
    if (!(seq > this.since)) {
      return; // seen before
    }
    this.since = seq;
    this.dispatchEvent(new CustomEvent("event", { detail: event }));
  }

  #lost(code) {
    const steady = this.#opened && performance.now() - this.#opened > STEADY;
    if (!this.#opened) {
      // A browser does not say why an upgrade was refused. An ordinary call does, and asks for a token if that is it.
      this.#latest(this.since).catch(() => {});
    }
    this.#opened = 0;
    if (steady || [SLOW, RESTART, WHO_ARE_YOU].includes(code)) {
      this.#backoff.reset();
    }
    this.#socket = null;
    if (code === STALE) {
      this.#say("connecting");
      this.dispatchEvent(new CustomEvent("stale"));
      return;
    }
    const pause = this.#backoff.next();
    this.#timer = setTimeout(() => this.#connect(), pause);
    this.#say("waiting", performance.now() + pause);
  }

  /** The network is back, or somebody looks at the page again: do not sit out a long pause. */
  #hurry() {
    if (this.#timer && !document.hidden) {
      this.#connect();
    }
  }

  /** A connection can be dead without either end being told. Ask the service whether there is more than we heard. */
  async #check() {
    const socket = this.#socket;
    if (!this.#opened || document.hidden) {
      return;
    }
    const since = this.since;
    const latest = await this.#latest(since).catch(() => null);
    if (latest === since) {
      return;
    }
    setTimeout(() => {
      if (socket === this.#socket && this.since === since) {
        this.#opened = 0;
        this.#connect();
      }
    }, CHECK_GRACE);
  }

  #say(name, retryAt = null) {
    this.dispatchEvent(new CustomEvent("state", { detail: { name, retryAt } }));
  }
}
