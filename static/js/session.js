import { byId } from "./dom.js";

const KEPT_AS = "vmsvc.token";

/** Who is looking. Without authentication it stays empty and is never asked; the token lives as long as the tab. */
export class Session {
  #token = sessionStorage.getItem(KEPT_AS);
  #scheme = sessionStorage.getItem(`${KEPT_AS}.scheme`) ?? "bearer";
  #asked = null;

  get signedIn() {
    return this.#token !== null;
  }

  /** The headers that say who asks. */
  headers() {
    if (this.#token === null) {
      return {};
    }
    return this.#scheme === "keystone" ? { "X-Auth-Token": this.#token } : { Authorization: `Bearer ${this.#token}` };
  }

  /** Ask for a token; resolves when one was given. All who ask meanwhile wait for the same answer. */
  ask(challenge = "", why = "") {
    this.#scheme = /keystone/i.test(challenge) ? "keystone" : "bearer";
    this.#asked ??= this.#show(why).finally(() => { this.#asked = null; });
    return this.#asked;
  }

  /** Forget the token. */
  clear() {
    sessionStorage.removeItem(KEPT_AS);
    this.#token = null;
  }

  #show(why) {
    const dialog = byId("sign-in-dialog");
    const input = byId("sign-in-token");
    if (this.signedIn && why) {
      byId("sign-in-text").textContent = why;
    }
    input.value = "";
    dialog.showModal();
    return new Promise(resolve => {
      const given = event => {
        event.preventDefault();
        this.#token = input.value.trim();
        sessionStorage.setItem(KEPT_AS, this.#token);
        sessionStorage.setItem(`${KEPT_AS}.scheme`, this.#scheme);
        input.value = "";
        byId("sign-in-form").removeEventListener("submit", given);
        dialog.removeEventListener("cancel", stay);
        dialog.close();
        resolve();
      };
      // There is nothing to see without a token, so Escape does not close this one.
      const stay = event => event.preventDefault();
      byId("sign-in-form").addEventListener("submit", given);
      dialog.addEventListener("cancel", stay);
    });
  }
}
