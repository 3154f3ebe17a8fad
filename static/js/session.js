import { byId } from "./dom.js";

const STORAGE_KEY = "vmsvc.token";

// What a browser can send in a header, and any service would take: other letters come from a wrong paste.
const SENDABLE = /^[!-~]+$/;

/**
 * The viewer's token, which lives as long as the tab. Without authentication there is none, and nobody asks for one.
 * Dispatches `signed-in`.
 */
export class Session extends EventTarget {
  #token = storedToken();
  #scheme = sessionStorage.getItem(`${STORAGE_KEY}.scheme`) ?? "bearer";
  #asked = null;

  get signedIn() {
    return this.#token !== null;
  }

  /** The headers with the token. */
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
    sessionStorage.removeItem(STORAGE_KEY);
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
        const token = input.value.trim();
        if (!SENDABLE.test(token)) {
          byId("sign-in-text").textContent = "A token has no spaces and no letters outside of ASCII. Copy it once more.";
          input.select();
          return;
        }
        this.#token = token;
        sessionStorage.setItem(STORAGE_KEY, this.#token);
        sessionStorage.setItem(`${STORAGE_KEY}.scheme`, this.#scheme);
        input.value = "";
        byId("sign-in-form").removeEventListener("submit", given);
        dialog.removeEventListener("cancel", stay);
        dialog.close();
        this.dispatchEvent(new CustomEvent("signed-in"));
        resolve();
      };
      // There is nothing to see without a token, so Escape does not close this one.
      const stay = event => event.preventDefault();
      byId("sign-in-form").addEventListener("submit", given);
      dialog.addEventListener("cancel", stay);
    });
  }
}

function storedToken() {
  const token = sessionStorage.getItem(STORAGE_KEY);
  return token !== null && SENDABLE.test(token) ? token : null;
}
