/** Growing pauses between attempts, with jitter so that many pages do not come back to a restarted server at once. */
export class Backoff {
  #attempt = 0;
  #first;
  #most;

  /** The first pause and the longest one, in milliseconds. */
  constructor(first = 500, most = 30000) {
    this.#first = first;
    this.#most = most;
  }

  /** The next pause in milliseconds: between half and all of a doubling bound. */
  next() {
    const bound = Math.min(this.#most, this.#first * 2 ** this.#attempt);
    this.#attempt = Math.min(this.#attempt + 1, 16);
    return bound * (0.5 + Math.random() / 2);
  }

  /** It worked: begin small again. */
  reset() {
    this.#attempt = 0;
  }
}
