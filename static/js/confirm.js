import { byId, closable, el } from "./dom.js";

/** Asks before something is done that cannot be taken back. Dispatches `closed` when the dialog is gone. */
export class ConfirmDialog extends EventTarget {
  #dialog = byId("confirm-dialog");
  #choices = byId("confirm-choices");
  #answer = null;
  #asked = null;

  constructor() {
    super();
    closable(this.#dialog);
    byId("confirm-form").addEventListener("submit", event => {
      event.preventDefault();
      this.#answer = this.#chosen;
      this.#dialog.close();
    });
    this.#choices.addEventListener("change", () => this.#name());
    this.#dialog.addEventListener("close", () => {
      this.#asked?.resolve(this.#answer);
      this.dispatchEvent(new CustomEvent("closed"));
    });
  }

  /**
   * Resolves with the choice, or null when nothing shall be done. `choices` are {value, title, hint, verb, danger};
   * one alone is not shown as a choice. `no` is what the other button says.
   */
  ask({ title, text, hint = "", no = "Cancel", choices }) {
    this.#answer = null;
    byId("confirm-title").textContent = title;
    byId("confirm-text").textContent = text;
    byId("confirm-hint").textContent = hint;
    byId("confirm-no").textContent = no;
    this.#choices.hidden = choices.length === 1;
    this.#choices.replaceChildren(this.#choices.firstElementChild, ...choices.map((choice, index) => radio(choice, index === 0)));
    this.#asked = { choices, ...Promise.withResolvers() };
    this.#name();
    this.#dialog.showModal();
    return this.#asked.promise;
  }

  get #chosen() {
    return this.#choices.querySelector(":checked").value;
  }

  /** The button says what it will do. */
  #name() {
    const { verb, danger } = this.#asked.choices.find(({ value }) => value === this.#chosen);
    const button = byId("confirm-yes");
    button.textContent = verb;
    button.className = danger ? "danger" : "primary";
  }
}

function radio({ value, title, hint }, checked) {
  return el("label", {}, el("input", { type: "radio", name: "confirm-choice", value, checked }),
    el("span", {}, el("strong", {}, title ?? ""), el("small", {}, hint ?? "")));
}
