/**
 * Work that is repeated: at the latest after `most` milliseconds, sooner when asked, but never more often than every
 * `least`, never twice at once, and not while nobody can see the page.
 */
export class Poll {
  #work;
  #least;
  #most;
  #timer = 0;
  #due = Infinity;
  #running = false;
  #again = false;
  #last = -Infinity;

  /** `work()` may be a coroutine; what it throws is its own to handle. `most` may be a function. */
  constructor(work, { least, most }) {
    this.#work = work;
    this.#least = least;
    this.#most = typeof most === "function" ? most : () => most;
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.#due < performance.now()) {
        this.#run();
      }
    });
  }

  /** Do it as soon as it may be done again. */
  soon() {
    if (this.#running) {
      this.#again = true;
    } else {
      this.#plan(Math.max(0, this.#last + this.#least - performance.now()));
    }
  }

  /** Begin to wait for the next time. */
  later() {
    this.#plan(this.#most());
  }

  #plan(pause) {
    const due = performance.now() + pause;
    if (due < this.#due || !this.#timer) {
      clearTimeout(this.#timer);
      this.#due = due;
      this.#timer = setTimeout(() => this.#run(), pause);
    }
  }

  async #run() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    if (this.#running || document.hidden) {
      return; // it is due: becoming visible runs it
    }
    this.#running = true;
    this.#due = Infinity;
    this.#last = performance.now();
    try {
      await this.#work();
    } finally {
      this.#running = false;
      const again = this.#again;
      this.#again = false;
      again ? this.soon() : this.later();
    }
  }
}
