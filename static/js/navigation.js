// What the viewer looks at is in the page's address: an open VM, the evictions, the filter and the order of the table. So a
// reload, a bookmark and the browser's Back and Forward lead there. Back closes a dialog; it does not leave the page.

import { el } from "./dom.js";

const VM = "#vm/";

/** The parameter of the address with this name, or "". */
export function parameterOf(name) {
  return new URL(window.location.href).searchParams.get(name) ?? "";
}

/** Write parameters into the address; those without a text are left out. It is no step that Back would take back. */
export function writeParameters(parameters) {
  const url = new URL(window.location.href);
  for (const [name, text] of Object.entries(parameters)) {
    if (text) {
      url.searchParams.set(name, text);
    } else {
      url.searchParams.delete(name);
    }
  }
  history.replaceState(history.state, "", url);
}

/** The address of a VM within this page. */
export function hashOf(id) {
  return VM + encodeURIComponent(id);
}

/** A link that shows a VM. */
export function vmLink(id, name) {
  return el("a", { href: hashOf(id), dir: "auto" }, name);
}

/**
 * Keeps the dialogs and the history of the browser together: each open dialog is one step. Some dialogs are places with an
 * address of their own.
 */
export class Navigation {
  #places;
  #open = []; // the dialogs that are open, the one on top last
  #started = false;

  /** `places` are {dialog, hash, show}: `hash()` is the address of what it shows, `show(hash)` shows it or returns false. */
  constructor(dialogs, places) {
    this.#places = places;
    const observer = new MutationObserver(() => this.#dialogsChanged(dialogs));
    dialogs.forEach(dialog => observer.observe(dialog, { attributeFilter: ["open"] }));
    window.addEventListener("popstate", () => this.#stepped());
    document.addEventListener("click", event => this.#followed(event));
  }

  /** The VMs are known: show what the address names. Later calls do nothing. */
  start() {
    if (this.#started) {
      return;
    }
    this.#started = true;
    const { hash } = window.location;
    // After a reload nothing is open. Closing what the address names leads to the page, not to where the viewer came from.
    history.replaceState({ depth: 0 }, "", this.#address());
    this.#show(hash);
  }

  /** What is shown in the dialog on top has another address now. */
  changed() {
    if (this.#open.length) {
      history.replaceState(history.state, "", this.#address());
    }
  }

  #show(hash) {
    return this.#places.some(({ show }) => show(hash) !== false);
  }

  #dialogsChanged(dialogs) {
    this.#open = [...this.#open.filter(({ open }) => open), ...dialogs.filter(dialog => dialog.open && !this.#open.includes(dialog))];
    this.#synchronize();
  }

  /** Make the history as deep as dialogs are open. One that takes the place of another is the same step. */
  #synchronize() {
    const depth = history.state?.depth ?? 0;
    if (this.#open.length > depth) {
      history.pushState({ depth: depth + 1 }, "", this.#address());
      this.#synchronize();
    } else if (this.#open.length < depth) {
      history.go(this.#open.length - depth);
    } else {
      history.replaceState({ depth }, "", this.#address());
    }
  }

  /** The viewer went back or forward, or wrote another address. */
  #stepped() {
    const { hash } = window.location;
    if (history.state === null) {
      history.replaceState({ depth: this.#open.length }, "");
    }
    const { depth } = history.state;
    if (depth < this.#open.length) {
      this.#open.slice(depth).reverse().forEach(dialog => dialog.close());
    } else if ((hash === this.#hash() || !this.#show(hash)) && depth > this.#open.length) {
      this.#synchronize(); // what has no address cannot be opened again
    }
  }

  /** A link to a VM opens it in the dialog that is open, if that shows VMs. */
  #followed(event) {
    const link = event.target.closest?.("a[href^='#vm/']");
    if (link && event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      event.stopPropagation();
      this.#show(link.getAttribute("href"));
    }
  }

  #hash() {
    const top = this.#open.at(-1);
    return this.#places.find(({ dialog }) => dialog === top)?.hash() ?? "";
  }

  #address() {
    return `${window.location.pathname}${window.location.search}${this.#hash()}`;
  }
}
