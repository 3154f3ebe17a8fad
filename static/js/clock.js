/**
 * The server's clock. The browser's wall clock is never asked: it may be wrong by hours, and may jump.
 *
 * Each answer bounds the difference between the server's time and the browser's monotonic one: its Date header, cut
 * to whole seconds, was true at some moment between asking and hearing. The bounds of many answers meet within a
 * fraction of a second. When they contradict each other (the machine slept, the server's clock was set) the newest
 * answer wins. All values are milliseconds.
 */
export class ServerClock {
  #low = -Infinity;
  #high = Infinity;
  #monotonic;

  constructor(monotonic = () => performance.now()) {
    this.#monotonic = monotonic;
  }

  /** The browser's monotonic time, to be handed to `responseReceived`. */
  monotonicNow() {
    return this.#monotonic();
  }

  /** An answer to a request sent at `sent` has come just now, dated `date` (an HTTP date). */
  responseReceived(date, sent) {
    const stamp = Date.parse(date ?? "");
    if (!Number.isNaN(stamp)) {
      this.#narrow(stamp - this.#monotonic(), stamp + 1000 - sent);
    }
  }

  /** Something that the server stamped `time` (ISO 8601) has arrived just now, so it is at least that late there. */
  eventReceived(time) {
    const stamp = Date.parse(time ?? "");
    if (!Number.isNaN(stamp)) {
      this.#narrow(stamp - this.#monotonic(), Infinity);
    }
  }

  /** The server's time, or null before its first answer. */
  now() {
    if (this.#low === -Infinity) {
      return null;
    }
    const offset = this.#high === Infinity ? this.#low : (this.#low + this.#high) / 2;
    return this.#monotonic() + offset;
  }

  #narrow(low, high) {
    if (low > this.#high) {
      this.#low = low;
      this.#high = high;
    } else if (high < this.#low) {
      this.#low = low;
      this.#high = high;
    } else {
      this.#low = Math.max(this.#low, low);
      this.#high = Math.min(this.#high, high);
    }
  }
}
