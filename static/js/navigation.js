// What the viewer looks at is in the page's address: an open VM, the filter and the order of the table. So a reload, a
// bookmark and the browser's Back and Forward lead there. Back closes a dialog; it does not leave the page.

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

/** The id of the VM that the address names, or null. */
export function vmOf(hash) {
  return hash.startsWith(VM) ? decodeURIComponent(hash.slice(VM.length)) : null;
}

/** Keeps the dialogs and the history of the browser together: each open dialog is one step. */
export class Navigation {
  #shownVm;
  #openVm;
  #started = false;
  #open = []; // the dialogs that are open, the one on top last

  /** `shownVm()` is the id of the VM whose dialog is open, or null; `openVm(id)` opens it. */
  constructor(dialogs, shownVm, openVm) {
    this.#shownVm = shownVm;
    this.#openVm = openVm;
    const observer = new MutationObserver(() => this.#dialogsChanged(dialogs));
    dialogs.forEach(dialog => observer.observe(dialog, { attributeFilter: ["open"] }));
    window.addEventListener("popstate", () => this.#stepped());
    window.addEventListener("hashchange", () => this.#stepped());
  }

  /** The VMs are known: open what the address names. Later calls do nothing. */
  start() {
    if (this.#started) {
      return;
    }
    this.#started = true;
    const id = vmOf(window.location.hash);
    if (id !== null && !history.state?.depth) {
      // A bookmark: closing the dialog leads to the page, not to where the viewer came from.
      history.replaceState({ depth: 0 }, "", this.#address(null));
    }
    if (id !== null) {
      this.#openVm(id);
    } else {
      this.#synchronize();
    }
  }

  /** Another VM is shown in the dialog that is open. */
  vmChanged() {
    if (this.#open.length) {
      history.replaceState(history.state, "", this.#address(this.#shownVm()));
    }
  }

  #dialogsChanged(dialogs) {
    this.#open = [...this.#open.filter(dialog => dialog.open), ...dialogs.filter(dialog => dialog.open && !this.#open.includes(dialog))];
    this.#synchronize();
  }

  /** Make the history as deep as dialogs are open. One that takes the place of another is the same step. */
  #synchronize() {
    const depth = history.state?.depth ?? 0;
    if (this.#open.length > depth) {
      history.pushState({ depth: depth + 1 }, "", this.#address(this.#shownVm()));
      this.#synchronize();
    } else if (this.#open.length < depth) {
      history.go(this.#open.length - depth);
    } else {
      history.replaceState({ depth }, "", this.#address(this.#shownVm()));
    }
  }

  /** The viewer went back or forward, or wrote another address. */
  #stepped() {
    const depth = history.state?.depth ?? 0;
    const id = vmOf(window.location.hash);
    if (id !== null && id !== this.#shownVm() && depth >= this.#open.length) {
      this.#openVm(id);
    } else if (depth > this.#open.length) {
      this.#synchronize(); // only a VM can be opened again
    } else {
      this.#open.slice(depth).reverse().forEach(dialog => dialog.close());
    }
  }

  #address(vm) {
    const url = new URL(window.location.href);
    url.hash = vm === null ? "" : VM + encodeURIComponent(vm);
    return vm === null ? url.href.replace(/#$/, "") : url.href;
  }
}
