import { showMessage } from "./messages.js";
import { kindOf, nameOf } from "./vm.js";

/** The actions on a VM. Each asks first and shows an error; the result comes as events. */
export class Actions {
  #api;
  #dialog;
  #changed;

  /** `dialog` asks: a ConfirmDialog; `changed(vm)` is told of a change of which there is no event. */
  constructor(api, dialog, changed) {
    this.#api = api;
    this.#dialog = dialog;
    this.#changed = changed;
  }

  /** Have it deleted. The answer comes when the server is gone from the cloud; events tell the rest meanwhile. */
  async remove(vm) {
    const yes = await this.#dialog.ask({
      title: "Delete VM", text: `Delete the ${kindOf(vm)} VM “${nameOf(vm)}” (${vm.id})?`, no: "Keep it",
      hint: "The server and what is on its disk are gone for good.",
      choices: [{ value: "delete", verb: "Delete", danger: true }],
    });
    if (yes) {
      await this.#api.remove(vm.id).catch(error => {
        if (error.status !== 404) {
          showMessage(`“${nameOf(vm)}” was not deleted. ${error.message}`);
        }
      });
    }
  }

  /** Release a noticed VM before its time. */
  async release(vm) {
    const yes = await this.#dialog.ask({
      title: "Release early", text: `“${nameOf(vm)}” has saved its work and may be evicted before its time?`, no: "Not yet",
      hint: "It is evicted at once, and its preemptor starts so much earlier. This cannot be taken back.",
      choices: [{ value: "release", verb: "Release it", danger: true }],
    });
    if (yes) {
      await this.#api.acknowledge(vm.id).catch(error => showMessage(`“${nameOf(vm)}” was not released. ${error.message}`));
    }
  }

  /** Let it not be started again; the VM itself stays as it is. */
  async endRestarts(vm) {
    const yes = await this.#dialog.ask({
      title: "End restarts", text: `“${nameOf(vm)}” stays as it is, and is not started again after its eviction?`, no: "Keep them",
      hint: "Its restarts cannot be switched on again.",
      choices: [{ value: "end", verb: "End restarts", danger: true }],
    });
    if (yes) {
      try {
        this.#changed({ ...vm, ...(await this.#api.change(vm.id, { on_eviction: "end" })).vm });
      } catch (error) {
        showMessage(`The restarts of “${nameOf(vm)}” were not ended. ${error.message}`);
      }
    }
  }

  /** Practise an eviction, so that its owner sees whether the guest does what it should. */
  async practise(vm) {
    const how = await this.#dialog.ask({
      title: "Practise its eviction",
      text: `Give “${nameOf(vm)}” the notice of a real eviction: the same events, timing and metadata.`,
      hint: "No request needs its capacity. The record marks it as simulated.",
      choices: [
        { value: "notice", title: "Notice only", hint: "It is reprieved when the grace period ends.", verb: "Give notice" },
        { value: "evict", title: "To the end", hint: "It is evicted. What is on its disk is gone.", verb: "Evict it",
          danger: true },
      ],
    });
    if (how) {
      await this.#api.practise(vm.id, how === "notice")
        .catch(error => showMessage(`“${nameOf(vm)}” was not noticed. ${error.message}`));
    }
  }
}
