const PAGE = 100;
const WIDEST = 1000; // the most that the service gives at once

/**
 * The past, read backwards over an interface that reads forwards: from `before`, a window of seq numbers at a time.
 * Numbers may be missing, so an empty window only means a wider one.
 */
export class History {
  #read;
  #before;

  /** `read({since, limit})` resolves with a page; events from `before` on are known already. */
  constructor(read, before) {
    this.#read = read;
    this.#before = before;
    this.ended = before <= 1;
  }

  /** The next older events, oldest first; empty when the history has ended. */
  async older() {
    for (let width = PAGE; !this.ended; width = Math.min(width * 4, WIDEST)) {
      const since = Math.max(0, this.#before - 1 - width);
      const events = await this.#window(since, width);
      if (this.ended || since === 0) {
        this.ended = true;
        this.#before = 0;
        return events;
      }
      this.#before = since + 1;
      if (events.length) {
        return events;
      }
    }
    return [];
  }

  async #window(since, limit) {
    const before = this.#before;
    try {
      const { events } = await this.#read({ since, limit });
      return events.filter(({ data }) => data.seq < before);
    } catch (error) {
      if (error.status < 400 || error.status >= 500 || error.status === 429) {
        throw error;
      }
      // Some of this window is no longer kept. Without `since` a page begins with the oldest that is.
      this.ended = true;
      const { events } = await this.#read({ limit: WIDEST });
      return events.filter(({ data }) => data.seq < before);
    }
  }
}
