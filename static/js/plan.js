import { el } from "./dom.js";
import { certaintyOf } from "./event_text.js";
import { flavorOf, hostOf, kindOf, nameOf } from "./vm.js";

const MOST = 8;

/** The elements that show the answer to a dry run: a sentence, and the victims. `find` looks up a VM by id. */
export function planElements(plan, find) {
  const parts = [el("p", {}, (SENTENCES[plan.result] ?? JSON.stringify)(plan))];
  if (plan.result === "evicts") {
    parts.push(victims(plan.victims, find), ...reasons(plan));
  }
  const full = plan.if_no_host_has_room;
  return full ? [...parts, el("p", { class: "else" }, "If no host has the capacity:"), ...planElements(full, find)] : parts;
}

const SENTENCES = {
  placed: ({ host }) => `It would be placed${host ? ` on ${host}` : ""}; nobody would be evicted.`,
  evicts: ({ victims: ids, host, grace_seconds: grace }) => `It would evict ${
    ids.length === 1 ? "this VM" : `these ${ids.length} VMs`}${host ? ` on ${host}` : ""}${
    grace === undefined ? "" : `, after ${Math.round(grace)} s of notice`}:`,
  waits: ({ reason, position }) => position ? `${sentence(reason)} No VM would be evicted.` : `It would wait for capacity that is being freed${reason ? `: ${reason}` : ""}. No VM would be evicted.`,
  refused: ({ reason }) => `It would be refused: ${reason}`,
};

function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}

function victims(ids, find) {
  const rest = ids.length - MOST;
  return el("ul", { class: "victims" }, ...ids.slice(0, MOST).map(id => victim(id, find(id))),
    ...(rest > 0 ? [el("li", {}, `and ${rest} more`)] : []));
}

function victim(id, vm) {
  if (!vm) {
    return el("li", {}, String(id));
  }
  const about = [flavorOf(vm), hostOf(vm), kindOf(vm) === "preemptible" && `priority ${vm.priority ?? 0}`];
  return el("li", {}, el("strong", {}, nameOf(vm)), el("span", { class: "note" }, about.filter(Boolean).join(" · ")));
}

function reasons({ criterion, optimal, certainty, evidence }) {
  return [criterion && `What decided: ${criterion}.`, optimal === false && "A better choice was not ruled out.",
    certaintyOf({ certainty, evidence })].filter(Boolean).map(text => el("p", {}, text));
}
