import { newKey } from "./api.js";
import { byId, closable, el } from "./dom.js";
import { tell } from "./messages.js";
import { describe } from "./plan.js";
import { flavorOf, isOurs, nameOf } from "./vm.js";

const AT_ONCE = 4;
const WORDS = ["name", "flavor", "image", "network", "key_name", "availability_zone"];
const NUMBERS = ["priority", "min_run_seconds"];

/** The dialog that asks for new VMs, one or many, or only asks what would happen. */
export class CreateDialog {
  #api;
  #store;
  #flavors = [];
  #dialog = byId("create-dialog");
  #form = byId("create-form");
  #outcome = byId("create-outcome");
  #keys = [];
  #asked = new Set();

  constructor(api, store) {
    this.#api = api;
    this.#store = store;
    closable(this.#dialog);
    byId("open-create").addEventListener("click", () => this.open());
    byId("create-try").addEventListener("click", () => this.#try());
    this.#form.addEventListener("submit", event => { event.preventDefault(); this.#create(); });
    // Another wish needs other Idempotency-Keys; the same one sent again must keep them.
    this.#form.addEventListener("input", () => { this.#keys = []; this.#say("", ""); this.#fitKind(); });
    store.addEventListener("event", ({ detail }) => this.#hear(detail.event.data, detail.vm));
  }

  open() {
    this.#say("", "");
    this.#keys = [];
    this.#fitKind();
    this.#offer();
    this.#dialog.showModal();
    this.#form.querySelector("[name=kind]:checked").focus();
  }

  /** The flavors of `GET capacity`. */
  know(capacity) {
    this.#flavors = (capacity.flavors ?? []).map(({ name, id }) => String(name ?? id));
  }

  #offer() {
    const ours = this.#store.all().filter(isOurs);
    const seen = of => [...new Set(ours.map(of).filter(Boolean).map(String))].sort();
    const offer = (id, values) => byId(id).replaceChildren(...values.map(value => el("option", { value })));
    offer("flavor-list", this.#flavors.length ? this.#flavors : seen(flavorOf));
    offer("image-list", seen(({ image }) => (typeof image === "object" ? image?.id : image)));
    offer("network-list", seen(({ network }) => network));
  }

  #fitKind() {
    const { value } = this.#form.elements.kind;
    for (const part of this.#form.querySelectorAll("[data-only]")) {
      part.hidden = part.dataset.only !== value;
    }
    byId("create-submit").textContent = this.#count() > 1 ? `Create ${this.#count()}` : "Create";
  }

  #count() {
    return Number(this.#form.elements.count.value);
  }

  /** The wish as the contract has it: only what was filled in. */
  #body(index, count) {
    const { elements } = this.#form;
    const preemptible = elements.kind.value === "preemptible";
    const body = { is_preemptible: preemptible };
    for (const name of WORDS) {
      const text = elements[name].value.trim();
      if (text) {
        body[name] = name === "name" && count > 1 ? `${text}-${index + 1}` : text;
      }
    }
    for (const name of NUMBERS.filter(() => preemptible)) {
      const { value } = elements[name];
      if (value !== "") {
        body[name] = Number(value);
      }
    }
    return body;
  }

  /** What the browser can see is wrong, before anybody is asked; moves the focus there. */
  #invalid() {
    const field = [...this.#form.elements].find(element => element.willValidate && !element.validity.valid);
    if (field) {
      field.closest("details")?.setAttribute("open", "");
      field.focus();
      this.#say(`${field.closest("label").firstChild.textContent.trim()}: ${field.validationMessage}`, "bad");
    }
    return Boolean(field);
  }

  async #try() {
    if (this.#invalid()) {
      return;
    }
    this.#busy(true);
    this.#say("Asking…", "");
    try {
      const plan = await this.#api.dryRun(this.#body(0, this.#count()));
      this.#say(describe(plan, id => this.#store.get(id)), "good");
    } catch (error) {
      this.#say(error.message, "bad");
    } finally {
      this.#busy(false);
    }
  }

  async #create() {
    if (this.#invalid()) {
      return;
    }
    const count = this.#count();
    this.#busy(true);
    this.#say("Asking…", "");
    const left = Array.from({ length: count }, (_, index) => index).filter(index => this.#keys[index] !== "done");
    const failures = [];
    const work = async () => {
      for (let index = left.shift(); index !== undefined && failures.length === 0; index = left.shift()) {
        await this.#one(index, count).catch(error => failures.push(error));
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    this.#busy(false);
    const done = this.#keys.filter(key => key === "done").length;
    if (failures.length === 0) {
      this.#dialog.close();
      return;
    }
    const progress = count > 1 ? `${done} of ${count} were accepted. ` : "";
    this.#say(progress + failures[0].message, "bad");
    if (!this.#dialog.open) {
      tell(progress + failures[0].message);
    }
  }

  async #one(index, count) {
    this.#keys[index] ??= newKey();
    const { vm } = await this.#send(this.#body(index, count), this.#keys[index]);
    this.#asked.add(vm?.vmsvc_id);
    this.#keys[index] = "done";
    if (count > 1) {
      this.#say(`${this.#keys.filter(key => key === "done").length} of ${count} accepted…`, "");
    }
  }

  /** Send it; when the service says "not so fast", as often as it says. */
  async #send(body, key) {
    for (;;) {
      try {
        return await this.#api.create(body, key);
      } catch (error) {
        if (error.status !== 429 || !error.retryAfter || !this.#dialog.open) {
          throw error;
        }
        await new Promise(resolve => { setTimeout(resolve, error.retryAfter); });
      }
    }
  }

  /** A create that was accepted can still fail, when the dialog is long closed. */
  #hear({ state, reason }, vm) {
    if (["active", "failed"].includes(state) && this.#asked.delete(vm.vmsvc_id) && state === "failed") {
      tell(`“${nameOf(vm)}” could not be created. ${reason ?? ""}`);
    }
  }

  #busy(busy) {
    byId("create-submit").disabled = busy;
    byId("create-try").disabled = busy;
    this.#form.setAttribute("aria-busy", busy);
  }

  #say(text, tone) {
    this.#outcome.textContent = text;
    this.#outcome.dataset.tone = tone;
  }
}
