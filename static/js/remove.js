import { byId, closable } from "./dom.js";
import { tell } from "./messages.js";
import { kindOf, nameOf } from "./vm.js";

/** Asks before a VM is deleted, then has it deleted. Dispatches `closed` when the dialog is gone. */
export class DeleteDialog extends EventTarget {
  #api;
  #dialog = byId("delete-dialog");
  #vm = null;

  constructor(api) {
    super();
    this.#api = api;
    closable(this.#dialog);
    byId("delete-form").addEventListener("submit", event => {
      event.preventDefault();
      this.#remove(this.#vm);
      this.#dialog.close();
    });
    this.#dialog.addEventListener("close", () => this.dispatchEvent(new CustomEvent("closed")));
  }

  /** Ask whether this VM shall go. */
  ask(vm) {
    this.#vm = vm;
    byId("delete-text").textContent = `Delete the ${kindOf(vm)} VM “${nameOf(vm)}” (${vm.id})?`;
    this.#dialog.showModal();
  }

  /** The answer comes when the server is gone from the cloud; events tell the rest meanwhile. */
  async #remove(vm) {
    try {
      await this.#api.remove(vm.id);
    } catch (error) {
      if (error.status !== 404) {
        tell(`“${nameOf(vm)}” was not deleted. ${error.message}`);
      }
    }
  }
}
