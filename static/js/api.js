// The REST contract, as this page uses it. All addresses are relative to the page, so a path prefix does not matter.

import { plain } from "./wording.js";

const BASE = new URL("api/v1/", document.baseURI);
const READ_LIMIT = 30_000;
// A delete answers when the server is gone from the cloud; the service's own limit is 300 s.
const WRITE_LIMIT = 330_000;
// How long a create may take before the service answers 202: long enough to hear a refusal in the dialog.
const CREATE_WAIT_SECONDS = 3;

/** The service answered with an error, or could not be reached. `message` is for people. */
export class ApiError extends Error {
  /**
   * `retryAfter` is milliseconds, null when the service did not say when it may be asked again; `field` the field of the
   * request that is wrong, or null.
   */
  constructor(message, { status = 0, retryAfter = null, field = null } = {}) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.retryAfter = retryAfter;
    this.field = field;
  }
}

/** A key for one request, so that sending it twice does not make two VMs. `randomUUID` needs https; this does not. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), byte => byte.toString(16).padStart(2, "0")).join("");
}

/** The message for a response that is not the service's own: a proxy's error page, for example. */
function messageOf({ ok, status, statusText }) {
  return ok ? "The service gave an answer that is not JSON."
    : `The service answered ${[status, statusText].join(" ").trim()}.`;
}

/** Calls to the service. Each resolves with the parsed body or rejects with ApiError. */
export class Api {
  #clock;
  #session;

  constructor(clock, session) {
    this.#clock = clock;
    this.#session = session;
  }

  /** The WebSocket address of the events after `since`. */
  static eventsUrl(since, ticket) {
    const url = new URL("events", BASE);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.searchParams.set("since", since);
    if (ticket !== null) {
      url.searchParams.set("ticket", ticket);
    }
    return url.href;
  }

  /** The service itself: `version` is the release that runs. */
  health() {
    return this.#call("GET", "../../healthz");
  }

  /** Whom the service takes the viewer for: `name` and `role`. */
  me() {
    return this.#call("GET", "me");
  }

  /** Whether the service can do its work: by part, "ok" or what is wrong. It answers with 503 when it cannot. */
  ready() {
    return this.#call("GET", "../../readyz", { refusals: [503] });
  }

  list() {
    return this.#call("GET", "vm");
  }

  /** One VM: its view has more than the list's. */
  vm(id) {
    return this.#call("GET", `vm/${encodeURIComponent(id)}`);
  }

  /** Change a VM: `{on_eviction: "end"}` ends its restarts. */
  change(id, body) {
    return this.#call("PATCH", `vm/${encodeURIComponent(id)}`, { body });
  }

  /** The right to open one WebSocket. */
  ticket() {
    return this.#call("POST", "tickets");
  }

  capacity() {
    return this.#call("GET", "capacity");
  }

  /** vCPUs in use and evictions over the last hours. */
  usage(hours) {
    return this.#call("GET", `usage?hours=${hours}`);
  }

  /** What a request may name. */
  catalog() {
    return this.#call("GET", "catalog");
  }

  /** A page of the record of evictions: `vm`, `request`, `limit`. */
  evictions(query) {
    return this.#call("GET", `evictions?${new URLSearchParams(query)}`);
  }

  /** A page of history: `since`, `limit`, `type`, `vm`. */
  history(query) {
    return this.#call("GET", `events?${new URLSearchParams(query)}`);
  }

  create(body, key) {
    return this.#call("POST", "vm", {
      body, headers: { "Idempotency-Key": key, Prefer: `wait=${CREATE_WAIT_SECONDS}` },
    });
  }

  /** What so many equal creates would do, without doing it. */
  dryRun(body, count) {
    return this.#call("POST", `vm?dry_run=true&count=${count}`, { body });
  }

  remove(id) {
    return this.#call("DELETE", `vm/${encodeURIComponent(id)}`);
  }

  /** Acknowledge a notice: the VM is released before its time. */
  acknowledge(id) {
    return this.#call("POST", `vm/${encodeURIComponent(id)}/ack`);
  }

  /** Practise the eviction of a VM: to its end, or the notice only. */
  practise(id, noticeOnly) {
    return this.#call("POST", `vm/${encodeURIComponent(id)}/evict`, { body: { notice_only: noticeOnly } });
  }

  webhooks() {
    return this.#call("GET", "webhooks");
  }

  createWebhook(body) {
    return this.#call("POST", "webhooks", { body });
  }

  /** Change a webhook, or switch it on: `{active: true}`. */
  changeWebhook(id, body) {
    return this.#call("PATCH", `webhooks/${id}`, { body });
  }

  removeWebhook(id) {
    return this.#call("DELETE", `webhooks/${id}`);
  }

  /** Send a message of type `test` now; `delivered` and `reason` say what became of it. */
  testWebhook(id) {
    return this.#call("POST", `webhooks/${id}/test`);
  }

  /** Give a webhook a new secret. */
  rotateWebhook(id) {
    return this.#call("POST", `webhooks/${id}/rotate`);
  }

  /** Send the events after `since` once more. */
  replayWebhook(id, since) {
    return this.#call("POST", `webhooks/${id}/replay`, { body: { since } });
  }

  /** A page of deliveries: `status`, `limit`. */
  deliveries(id, query) {
    return this.#call("GET", `webhooks/${id}/deliveries?${new URLSearchParams(query)}`);
  }

  /** `refusals`: the statuses besides 2xx that are answers too. */
  async #call(method, path, { body, headers = {}, refusals = [] } = {}) {
    const response = await this.#send(method, path, body, headers);
    const answer = await response.json().catch(() => null);
    if ((response.ok || refusals.includes(response.status)) && answer !== null) {
      return answer;
    }
    const seconds = response.headers.get("Retry-After");
    throw new ApiError(answer?.message ? plain(answer.message) : messageOf(response),
      { status: response.status, retryAfter: seconds === null ? null : 1000 * Number(seconds), field: answer?.field });
  }

  async #send(method, path, body, headers) {
    for (;;) {
      const response = await this.#fetch(method, path, body, headers);
      if (response.status !== 401) {
        return response;
      }
      await this.#session.ask(response.headers.get("WWW-Authenticate") ?? "", "That token was not accepted.");
    }
  }

  async #fetch(method, path, body, headers) {
    const sent = this.#clock.monotonicNow();
    try {
      const response = await fetch(new URL(path, BASE), {
        method,
        headers: {
          Accept: "application/json", ...this.#session.headers(), ...headers,
          ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        },
        body: body === undefined ? undefined : JSON.stringify(body),
        cache: "no-store",
        signal: AbortSignal.timeout(method === "GET" ? READ_LIMIT : WRITE_LIMIT),
      });
      this.#clock.responseReceived(response.headers.get("Date"), sent);
      return response;
    } catch (error) {
      throw new ApiError(error.name === "TimeoutError"
        ? "The service did not answer in time." : "The service cannot be reached.");
    }
  }
}
