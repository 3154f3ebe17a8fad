// The cards of notices: one for a victim, one for all victims of a preemptor. Each counts down when it is told the time.

import { el, mark, write } from "./dom.js";
import { vmLink } from "./navigation.js";
import { clockTime, countdown } from "./time.js";
import { flavorOf, hostOf, nameOf } from "./vm.js";

export const OUTCOMES = { evicted: "Evicted", reprieved: "Reprieved", deleted: "Deleted by its owner", lost: "Lost" };
const MOST_NAMES = 12;

/** True while the VM may still save its work. `now` is null before the server's first answer. */
function isRunning({ state, outcome, deadline }, now) {
  return !outcome && state === "noticed" && now !== null && deadline > now;
}

/** What a clock says of one notice, the tone of its card, and the part of the notice that is left. */
function progressOf(notice, now) {
  if (isRunning(notice, now)) {
    const left = notice.deadline - now;
    return { text: countdown(left), tone: "warn", share: Math.min(1, left / Math.max(notice.grace, 1)) };
  }
  if (notice.outcome) {
    return { text: OUTCOMES[notice.outcome], tone: notice.outcome === "reprieved" ? "good" : "gone", share: 0 };
  }
  return { text: "Evicting", tone: "leaving", share: 0 };
}

/** The same for several: the deadline that comes first counts, then what is under way, then how the first one ended. */
function progressOfAll(notices, now) {
  const first = notices.find(notice => isRunning(notice, now)) ?? notices.find(({ outcome }) => !outcome) ?? notices[0];
  return progressOf(first, now);
}

/** The frame of a card: a name that opens something, a clock, facts, a bar that runs out. */
class Card {
  #clock = el("span", { class: "notice-clock", role: "timer", "aria-live": "off" });
  #bar = el("span");
  #name = el("button", { type: "button", class: "notice-name", dir: "auto" });
  #note = el("span", { class: "note" });
  #facts = el("dl", {});

  constructor(open, ...more) {
    this.#name.addEventListener("click", open);
    this.element = el("li", { class: "notice" }, el("div", { class: "notice-head" }, this.#name, this.#note),
      this.#clock, this.#facts, ...more, el("span", { class: "notice-bar", "aria-hidden": "true" }, this.#bar));
  }

  /** `facts` are [term, text or link]; those without a text are left out. */
  write(name, note, facts) {
    write(this.#name, name);
    write(this.#note, note);
    this.#facts.replaceChildren(...facts.filter(([, text]) => text)
      .map(([term, text]) => el("div", {}, el("dt", {}, term), el("dd", { title: text.textContent ?? text, dir: "auto" }, text))));
  }

  showProgress({ text, tone, share }, until) {
    write(this.#clock, text);
    mark(this.#clock, "title", Number.isFinite(until) ? `Until ${clockTime(until)}` : null);
    mark(this.element, "data-tone", tone);
    this.#bar.style.transform = `scaleX(${share.toFixed(3)})`;
  }
}

/**
 * One victim. `send(type)` is called with `open` or `release`; `mayRelease()` says whether the viewer may release it now.
 */
export class VictimCard {
  #notice;
  #card;
  #release;
  #mayRelease;

  constructor(notice, send, mayRelease) {
    this.#notice = notice;
    this.#mayRelease = mayRelease;
    const { vm, preemptor, criterion, certainty, why, then } = notice;
    const name = nameOf(vm);
    this.#release = el("button", { type: "button", class: "notice-release", "aria-label": `Release ${name} early…`,
      title: "Its work is saved: release it before its time" }, "Release…");
    this.#release.addEventListener("click", () => send("release"));
    this.#card = new Card(() => send("open"), this.#release);
    this.#card.write(name, [flavorOf(vm), hostOf(vm)].filter(Boolean).join(" on "), [
      ["Capacity for", preemptor && vmLink(preemptor.id, preemptor.name)], ["Decided by", criterion], ["Certainty", certainty], ["Why", why], ["Then", then],
    ]);
  }

  get element() {
    return this.#card.element;
  }

  tick(now) {
    this.#card.showProgress(progressOf(this.#notice, now), this.#notice.deadline);
    this.#release.hidden = !isRunning(this.#notice, now) || !this.#mayRelease();
  }
}

/** Several victims as one card: those of one preemptor, or all for which there is no place. */
export class GroupCard {
  #card;
  #notices = [];

  constructor(open) {
    this.#card = new Card(open);
  }

  get element() {
    return this.#card.element;
  }

  /** `notices` are in the order of their deadlines. */
  update(title, notices) {
    this.#notices = notices;
    const ended = notices.filter(({ outcome }) => outcome).length;
    const names = notices.slice(0, MOST_NAMES).map(({ vm }) => nameOf(vm)).join(", ");
    this.#card.write(title, `${notices.length} VMs${ended ? `, ${ended} over` : ""}`, [["Victims", names]]);
  }

  tick(now) {
    this.#card.showProgress(progressOfAll(this.#notices, now), this.#notices[0].deadline);
  }
}
