// A lineage as one line that opens to its VMs: a preemptible VM, and those that were started again after it.

import { el } from "./dom.js";
import { dateTime } from "./time.js";
import { restartsLeftOf, stateOf, toneOf } from "./vm.js";

/** The line of a VM's lineage; null when it has none. `open(member)` is called for the VM that was chosen. */
export function lineageElement(vm, unfolded, open) {
  const members = vm.lineage ?? [];
  if (!members.length) {
    return null;
  }
  return el("details", { class: "record", open: unfolded },
    el("summary", {}, el("strong", {}, "Lineage"), el("span", { class: "note" }, wordsOf(vm, members))),
    el("ol", { class: "members", "aria-label": "VMs of the lineage, newest first" },
      ...members.map(member => memberElement(member, member.vmsvc_id === vm.vmsvc_id, open))));
}

function wordsOf(vm, members) {
  const again = members[0].restarts;
  const left = restartsLeftOf(vm);
  const times = again === 0 ? "not started again yet" : again === 1 ? "started again once" : `started again ${again} times`;
  return `${times} · ${Number.isNaN(left) ? "restarts have ended" : left === 1 ? "1 restart left" : `${left} restarts left`}`;
}

function memberElement(member, isShown, open) {
  const { restarts, created_at: created, ended_at: ended } = member;
  const name = restarts === 0 ? "The first VM" : `Restart ${restarts}`;
  const button = el("button", { type: "button", class: "quiet", "aria-current": isShown ? "true" : null }, name);
  button.addEventListener("click", () => open(member));
  return el("li", {}, button, el("span", { class: "chip", "data-tone": toneOf(stateOf(member)) }, stateOf(member)),
    el("time", { datetime: created, class: "note" }, dateTime(Date.parse(created))),
    el("span", { class: "note" }, ended ? `to ${dateTime(Date.parse(ended))}` : ""));
}
