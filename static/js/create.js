import { newKey } from "./api.js";
import { byId, closable } from "./dom.js";
import { mebibytes } from "./capacity.js";
import { showMessage } from "./messages.js";
import { planElements } from "./plan.js";
import { nameOf } from "./vm.js";
import { plain } from "./wording.js";

const AT_ONCE = 4;
const TEXTS = ["name", "flavor", "image", "network", "key_name", "availability_zone"];
// What only a preemptible VM has.
const NUMBERS = ["priority", "min_run_seconds", "max_unavailable", "fallback_after_seconds"];

/** The dialog that creates VMs, one or many, or only shows what would happen. */
export class CreateDialog {
  #api;
  #store;
  #dialog = byId("create-dialog");
  #form = byId("create-form");
  #outcome = byId("create-outcome");
  #keys = [];
  #accepted = new Set();
  #busy = false;

  constructor(api, store) {
    this.#api = api;
    this.#store = store;
    closable(this.#dialog);
    byId("open-create").addEventListener("click", () => this.open());
    byId("create-try").addEventListener("click", () => this.#try());
    this.#form.addEventListener("submit", event => { event.preventDefault(); this.#create(); });
    // Another request needs other Idempotency-Keys; the same one sent again must keep them.
    this.#form.addEventListener("input", () => { this.#keys = []; this.#showOutcome("", ""); this.#fitKind(); });
    store.addEventListener("event", ({ detail }) => this.#eventReceived(detail.event.data, detail.vm));
  }

  open() {
    this.#showOutcome("", "");
    this.#keys = [];
    this.#fitKind();
    this.#dialog.showModal();
    this.#form.querySelector("[name=kind]:checked").focus();
    this.#read();
  }

  /** What the cloud offers now. Until it is known, or when it cannot be read, only the default can be chosen. */
  async #read() {
    try {
      this.#offer(await this.#api.catalog());
    } catch (error) {
      this.#offer({});
      this.#showOutcome(`The cloud's lists could not be read. ${error.message}`, "bad");
    }
  }

  #offer({ flavors = [], images = [], networks = [], key_names: keys = [], availability_zones: zones = [], defaults = {} }) {
    const sized = ({ id, name, vcpus, ram }) => ({ id, name: `${name} — ${vcpus} vCPU, ${mebibytes(ram)}` });
    const plain = name => ({ id: name, name });
    const usual = name => (name ? `Default (${name})` : "Choose…");
    this.#fill("flavor", usual(defaults.flavor), flavors.map(sized));
    this.#fill("image", usual(defaults.image), images);
    this.#fill("network", usual(defaults.network), networks);
    for (const name of ["flavor", "image", "network"]) {
      this.#form.elements[name].required = defaults[name] === null;
    }
    this.#fill("key_name", "None", keys.map(plain));
    this.#fill("availability_zone", "Any", zones.map(plain));
  }

  /** Offer these; what was chosen before stays chosen if it is still there. */
  #fill(name, none, offers) {
    const select = this.#form.elements[name];
    const chosen = select.value;
    select.replaceChildren(new Option(none, ""), ...offers.map(({ id, name: text }) => new Option(text, id)));
    select.value = offers.some(({ id }) => id === chosen) ? chosen : "";
  }

  #fitKind() {
    const { value } = this.#form.elements.kind;
    for (const part of this.#form.querySelectorAll("[data-only]")) {
      part.hidden = part.dataset.only !== value;
    }
    const { on_eviction: then, max_restarts: most } = this.#form.elements;
    most.closest("label").hidden ||= then.value === "";
    byId("create-submit").textContent = this.#count() > 1 ? `Create ${this.#count()}` : "Create";
  }

  #count() {
    return Number(this.#form.elements.count.value);
  }

  /** The body of the request: only what was filled in. */
  #body(index, count) {
    const { elements } = this.#form;
    const preemptible = elements.kind.value === "preemptible";
    const body = { is_preemptible: preemptible };
    for (const name of TEXTS) {
      const text = elements[name].value.trim();
      if (text) {
        body[name] = name === "name" && count > 1 ? `${text}-${index + 1}` : text;
      }
    }
    const group = preemptible && elements.group.value.trim();
    const restarts = preemptible && elements.on_eviction.value === "restart";
    return {
      ...body, ...(group ? { group } : {}), ...(restarts ? { on_eviction: "restart", ...this.#numbers(["max_restarts"]) } : {}),
      ...this.#numbers(["wait_seconds", ...(preemptible ? NUMBERS : ["patience_seconds"])]),
    };
  }

  #numbers(names) {
    const { elements } = this.#form;
    return Object.fromEntries(names.filter(name => elements[name].value !== "").map(name => [name, Number(elements[name].value)]));
  }

  /** True when the browser finds a field invalid; moves the focus there. Nothing has been sent yet. */
  #invalid() {
    const field = [...this.#form.elements].find(element => element.willValidate && !element.validity.valid);
    if (field) {
      const name = field.closest("label").firstChild.textContent.trim();
      const why = field.validity.valueMissing ? "there is no default, so choose one." : field.validationMessage;
      this.#showOutcome(`${name}: ${why}`, "bad");
      this.#reach(field);
    }
    return Boolean(field);
  }

  #reach(field) {
    field.closest("details")?.setAttribute("open", "");
    field.focus();
  }

  /** Say why it was refused, and go to the field that is to blame if there is one. */
  #explain(text, { field }) {
    this.#showOutcome(text, "bad");
    const element = this.#form.elements[field];
    if (element instanceof HTMLElement) {
      this.#reach(element);
    }
  }

  async #try() {
    if (this.#busy || this.#invalid()) {
      return;
    }
    this.#setBusy(true);
    this.#showOutcome("Asking…", "");
    try {
      const plan = await this.#api.dryRun(this.#body(0, this.#count()), this.#count());
      this.#showOutcome("", "plan", ...planElements(plan, id => this.#store.get(id)));
    } catch (error) {
      this.#explain(error.message, error);
    } finally {
      this.#setBusy(false);
    }
  }

  async #create() {
    if (this.#busy || this.#invalid()) {
      return;
    }
    const count = this.#count();
    this.#setBusy(true);
    this.#showOutcome("Asking…", "");
    const left = Array.from({ length: count }, (_, index) => index).filter(index => this.#keys[index] !== "done");
    const failures = [];
    const work = async () => {
      for (let index = left.shift(); index !== undefined && failures.length === 0; index = left.shift()) {
        await this.#one(index, count).catch(error => failures.push(error));
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    this.#setBusy(false);
    const done = this.#keys.filter(key => key === "done").length;
    if (failures.length === 0) {
      this.#dialog.close();
      this.#form.elements.name.value = "";
      this.#form.elements.count.value = 1;
      return;
    }
    const progress = count > 1 ? `${done} of ${count} were accepted. ` : "";
    this.#explain(progress + failures[0].message, failures[0]);
    if (!this.#dialog.open) {
      showMessage(progress + failures[0].message);
    }
  }

  async #one(index, count) {
    this.#keys[index] ??= newKey();
    const { vm } = await this.#send(this.#body(index, count), this.#keys[index]);
    this.#accepted.add(vm?.vmsvc_id);
    this.#keys[index] = "done";
    if (count > 1) {
      this.#showOutcome(`${this.#keys.filter(key => key === "done").length} of ${count} accepted…`, "");
    }
  }

  /** Send it; after a 429 again, when the service says. */
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
  #eventReceived({ state, reason, message }, vm) {
    if (["active", "failed"].includes(state) && this.#accepted.delete(vm.vmsvc_id) && state === "failed") {
      showMessage(`“${nameOf(vm)}” could not be created. ${plain(message ?? reason)}`);
    }
  }

  /** Until the answer is there, neither button does anything. They are not disabled: that would take their focus away. */
  #setBusy(busy) {
    this.#busy = busy;
    for (const id of ["create-submit", "create-try"]) {
      byId(id).setAttribute("aria-disabled", busy);
    }
    this.#form.setAttribute("aria-busy", busy);
  }

  #showOutcome(text, tone, ...elements) {
    this.#outcome.replaceChildren(...(text ? [text] : []), ...elements);
    this.#outcome.dataset.tone = tone;
    if (text || elements.length) {
      this.#outcome.scrollIntoView({ block: "nearest" });
    }
  }
}
