import { byId, mark, write } from "./dom.js";

const READER = "reader";
const WHY = "You may read only: this service knows you as a reader";

/** Who the viewer is for the service, and what that allows. Dispatches `change`. Until it is known all is allowed. */
export class Access extends EventTarget {
  #api;
  #me = { name: "", role: "" };

  constructor(api) {
    super();
    this.#api = api;
  }

  /** The name that the viewer's VMs have as their owner; "" when it is not known. */
  get name() {
    return this.#me.name;
  }

  get mayWrite() {
    return this.#me.role !== READER;
  }

  /** Ask the service. An older one does not say. */
  async read() {
    this.#me = await this.#api.me().catch(() => this.#me);
    const { name, role } = this.#me;
    byId("who").hidden = !name || name === "anonymous";
    write(byId("who-name"), name);
    write(byId("who-role"), role);
    for (const button of document.querySelectorAll("[data-writes]")) {
      button.disabled = !this.mayWrite;
      mark(button, "title", this.mayWrite ? null : WHY);
    }
    this.dispatchEvent(new CustomEvent("change"));
  }
}
