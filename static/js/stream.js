import { Backoff } from "./backoff.js";

/** Close codes of the service's event channel. */
const TOO_SLOW = 4008; // we read too slowly: come back with `since`
const HISTORY_GONE = 4009; // `since` is older than the history: the list must be read anew
const SERVICE_RESTART = 1012; // the service restarts
const UNAUTHENTICATED = 4001; // come back with a new ticket

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
    window.addEventListener("online", () => this.#retryNow());
    document.addEventListener("visibilitychange", () => this.#retryNow());
  }

  /** Connect, or connect anew, for what comes after `since`. */
  start(since) {
    this.since = since;
    this.#connect();
  }

  stop() {
    this.#forget();
    this.#dispatchState("stopped");
  }

  async #connect() {
    this.#forget();
    this.#dispatchState("connecting");
    const attempt = this.#attempt;
    const url = await this.#url(this.since).catch(() => null);
    if (attempt !== this.#attempt) {
      return; // a later attempt connects, or the stream was stopped
    }
    if (url === null) {
      this.#closed();
      return;
    }
    const socket = new WebSocket(url);
    this.#socket = socket;
    // A socket that was given up may still get messages: only those of the current one count.
    const current = handle => message => { if (socket === this.#socket) { handle(message); } };
    socket.addEventListener("open", current(() => this.#live()));
    socket.addEventListener("message", current(message => this.#receive(JSON.parse(message.data))));
    socket.addEventListener("close", current(message => this.#closed(message.code)));
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
    this.#dispatchState("live");
  }

  #receive(event) {
    const seq = event.data?.seq ?? Number(event.id);
    if (!(seq > this.since)) {
      return; // seen before
    }
    this.since = seq;
    this.dispatchEvent(new CustomEvent("event", { detail: event }));
  }

  #closed(code) {
    const steady = this.#opened && performance.now() - this.#opened > STEADY;
    if (!this.#opened) {
      // A browser does not say why an upgrade was refused. An ordinary request does, and asks for a token if one is missing.
      this.#latest(this.since).catch(() => {});
    }
    this.#opened = 0;
    if (steady || [TOO_SLOW, SERVICE_RESTART, UNAUTHENTICATED].includes(code)) {
      this.#backoff.reset();
    }
    this.#socket = null;
    if (code === HISTORY_GONE) {
      this.#dispatchState("connecting");
      this.dispatchEvent(new CustomEvent("stale"));
      return;
    }
    const pause = this.#backoff.next();
    this.#timer = setTimeout(() => this.#connect(), pause);
    this.#dispatchState("waiting", performance.now() + pause);
  }

  /** The network is back, or the page is visible again: end the pause before the next attempt. */
  #retryNow() {
    if (this.#timer && !document.hidden) {
      this.#connect();
    }
  }

  /** A connection can be dead without either end noticing. Ask the service whether it has later events. */
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

  #dispatchState(name, retryAt = null) {
    this.dispatchEvent(new CustomEvent("state", { detail: { name, retryAt } }));
  }
}
