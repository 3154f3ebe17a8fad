import { byId, closable, el } from "./dom.js";
import { dateTime } from "./time.js";

const SHOWN_FAILURES = 5;
const MOST_FAILURES = 1000;
const TONES = { verified: "good", unverified: "warn", off: "bad" };
const OFF = { gone: "its receiver answered 410", failing: "nothing was delivered for 5 days", by_owner: "by its owner" };

/** The dialog of webhooks: what state each is in, what failed last, and what can be done about it. */
export class WebhooksDialog {
  #api;
  #confirmation;
  #dialog = byId("webhooks-dialog");
  #form = byId("webhooks-form");
  #list = byId("webhooks-list");
  #outcome = byId("webhooks-outcome");

  /** `confirmation` asks before what cannot be taken back: a ConfirmDialog. */
  constructor(api, confirmation) {
    this.#api = api;
    this.#confirmation = confirmation;
    closable(this.#dialog);
    this.#form.addEventListener("submit", event => { event.preventDefault(); this.#create(); });
    this.#dialog.addEventListener("close", () => this.#showSecret(""));
  }

  open() {
    this.#say("", "");
    this.#dialog.showModal();
    this.#read();
  }

  async #read() {
    try {
      const { webhooks } = await this.#api.webhooks();
      const failures = await Promise.all(webhooks.map(({ id }) => this.#failuresOf(id, SHOWN_FAILURES)));
      this.#list.replaceChildren(...(webhooks.length
        ? webhooks.map((webhook, index) => this.#item(webhook, failures[index])) : [el("li", {}, "There is none yet.")]));
    } catch (error) {
      this.#say(error.message, "bad");
    }
  }

  async #failuresOf(id, limit) {
    return (await this.#api.deliveries(id, { status: "failed", limit })).deliveries;
  }

  #item(webhook, failures) {
    const { id, url, status, description } = webhook;
    const button = (name, work, kind = "plain") => {
      const made = el("button", { type: "button", class: kind, "aria-label": `${name}: ${url}` }, name);
      made.addEventListener("click", () => this.#do(work, made));
      return made;
    };
    return el("li", { "data-id": id },
      el("span", { class: "chip", "data-tone": TONES[status] }, status), " ", el("strong", {}, url),
      el("div", {}, [ruleOf(webhook), description].filter(Boolean).join(" · ")),
      el("div", { class: "note" }, stateOf(webhook)),
      ...(failures.length ? [el("ul", { class: "failures", "aria-label": "Last failures" }, ...failures.map(failureElement))] : []),
      el("div", { class: "buttons" },
        button("Test", () => this.#test(id)),
        ...(status === "off" ? [button("Switch on", () => this.#api.changeWebhook(id, { active: true }))] : []),
        ...(failures.length ? [button("Replay what failed", () => this.#replay(id))] : []),
        button("New secret…", () => this.#rotate(webhook)),
        button("Delete…", () => this.#remove(webhook), "danger")));
  }

  /** Do something about a webhook, and show what it is like then. `work` may return a sentence. */
  async #do(work, button) {
    button.disabled = true;
    try {
      const sentence = await work();
      this.#say(typeof sentence === "string" ? sentence : "", "good");
    } catch (error) {
      this.#say(error.message, "bad");
    }
    await this.#read();
    button.disabled = false;
  }

  async #create() {
    const fields = Object.fromEntries(new FormData(this.#form));
    const body = {
      url: fields.url.trim(), description: fields.description,
      types: fields.types ? [fields.types] : [], ...(fields.preemptible ? { preemptible: fields.preemptible === "true" } : {}),
    };
    try {
      const { webhook, secret } = await this.#api.createWebhook(body);
      this.#form.reset();
      this.#showSecret(secret);
      this.#say(webhook.status === "verified" ? "Its receiver agrees: events are sent."
        : "Its receiver has not agreed yet. Give it the secret, then press Test.", webhook.status === "verified" ? "good" : "");
      await this.#read();
    } catch (error) {
      this.#say(error.message, "bad");
    }
  }

  async #test(id) {
    const { delivered, code, reason } = await this.#api.testWebhook(id);
    if (!delivered) {
      throw new Error(`The test was not delivered: ${reason}.`);
    }
    return `The test was delivered; the answer was ${code}.`;
  }

  async #replay(id) {
    const failed = await this.#failuresOf(id, MOST_FAILURES);
    const { count } = await this.#api.replayWebhook(id, failed.at(-1).seq - 1);
    return `${count} ${count === 1 ? "event is" : "events are"} sent again.`;
  }

  async #rotate({ id, url }) {
    const yes = await this.#confirmation.ask({
      title: "New secret", text: `Give ${url} a new secret?`,
      hint: "The old one signs along for 24 hours. Until then there cannot be another.",
      choices: [{ value: "rotate", verb: "Make it" }],
    });
    if (yes) {
      const { secret } = await this.#api.rotateWebhook(id);
      this.#showSecret(secret);
    }
  }

  async #remove({ id, url }) {
    const yes = await this.#confirmation.ask({
      title: "Delete webhook", text: `Delete the webhook ${url}?`, no: "Keep it",
      hint: "What waits to be sent to it is not sent.",
      choices: [{ value: "delete", verb: "Delete", danger: true }],
    });
    if (yes) {
      await this.#api.removeWebhook(id);
    }
  }

  #showSecret(secret) {
    byId("webhooks-secret").hidden = !secret;
    byId("webhooks-secret-text").value = secret;
  }

  #say(text, tone) {
    this.#outcome.textContent = text;
    this.#outcome.dataset.tone = tone;
  }
}

function ruleOf({ types, states, preemptible, vm }) {
  const kind = preemptible === null ? "" : `${preemptible ? "preemptible" : "standard"} VMs`;
  return [types.length ? types.join(", ") : "all events", states.join(", "), kind, vm ? `VM ${vm}` : ""].filter(Boolean).join(" · ");
}

function stateOf({ off_reason: off, pending, failing_since: since, last_error: error, last_success_at: success }) {
  return [
    off ? `Switched off: ${OFF[off] ?? off}.` : "",
    pending ? `${pending} to be sent.` : "",
    since ? `Failing since ${dateTime(Date.parse(since))}.` : "",
    error ? `Last error: ${error}.` : "",
    success ? `Last delivery ${dateTime(Date.parse(success))}.` : "",
  ].filter(Boolean).join(" ");
}

function failureElement({ seq, type, state, vm, attempts, last_error: error }) {
  return el("li", {}, `Event ${seq} (${[type, state].filter(Boolean).join("/")}, ${vm}): ${error}, after ${attempts} ${attempts === 1 ? "attempt" : "attempts"}`);
}
