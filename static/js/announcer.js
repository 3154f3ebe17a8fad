import { byId, el } from "./dom.js";

const GATHER = 400;
const KEEP = 8_000;
const MOST = 3;

/** Speaks to screen readers, politely. Sentences that come together and are many are summed up as one. */
export class Announcer {
  #waiting = [];
  #timer = 0;

  /** Say a sentence; of more than three at once only their number per `topic` is said. */
  say(sentence, topic) {
    this.#waiting.push({ sentence, topic });
    this.#timer ||= setTimeout(() => this.#speak(), GATHER);
  }

  #speak() {
    this.#timer = 0;
    const all = this.#waiting.splice(0);
    const sentences = all.length > MOST
      ? [...new Set(all.map(({ topic }) => topic))]
        .map(topic => `${all.filter(one => one.topic === topic).length} ${topic}.`)
      : all.map(({ sentence }) => sentence);
    const lines = sentences.map(sentence => el("p", {}, sentence));
    byId("announcer").append(...lines);
    setTimeout(() => lines.forEach(line => line.remove()), KEEP);
  }
}
