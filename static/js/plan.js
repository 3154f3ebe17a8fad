import { el } from "./dom.js";
import { certaintyOf } from "./event_text.js";
import { flavorOf, hostOf, kindOf, nameOf } from "./vm.js";
import { plain } from "./wording.js";

const MOST = 8;

/** The elements that show the answer to a dry run: a sentence, and the victims. `find` looks up a VM by id. */
export function planElements(plan, find) {
  const parts = plan.plans ? ofMany(plan.plans, find) : ofOne(plan, find);
  const full = plan.if_no_host_has_room;
  return full ? [...parts, el("p", { class: "else" }, "If no host has the capacity:"), ...planElements(full, find)] : parts;
}

function ofOne(plan, find) {
  const parts = [el("p", {}, (SENTENCES[plan.result] ?? JSON.stringify)(plan))];
  return plan.result === "evicts" ? [...parts, victims(plan.victims, find), ...reasons([plan])] : parts;
}

const SENTENCES = {
  placed: ({ host }) => `It would be placed${host ? ` on ${plain(host)}` : ""}; nobody would be evicted.`,
  evicts: ({ victims: ids, host, grace_seconds: grace }) => `It would evict ${
    ids.length === 1 ? "this VM" : `these ${ids.length} VMs`}${host ? ` on ${host}` : ""}${notice(grace)}:`,
  waits: ({ reason, position }) => position ? `${sentence(reason)} No VM would be evicted.` : `It would wait for capacity that is being freed${reason ? `: ${plain(reason)}` : ""}. No VM would be evicted.`,
  refused: ({ reason }) => `It would be refused: ${plain(reason)}`,
};

/** Of several VMs that are asked for together: how many would be placed, and whom they would evict together. */
function ofMany(plans, find) {
  const of = result => plans.filter(plan => plan.result === result);
  const evicting = of("evicts");
  const ids = [...new Set(evicting.flatMap(({ victims: one }) => one))];
  const shares = [
    [of("placed").length, "would be placed at once"],
    [evicting.length, `would be placed after ${ids.length === 1 ? "1 eviction" : `${ids.length} evictions`}${notice(evicting[0]?.grace_seconds)}`],
    [of("waits").length, "would wait for capacity"],
    [of("refused").length, "would be refused"],
  ].filter(([count]) => count);
  const others = [...new Set([...of("waits"), ...of("refused")].map(({ reason }) => reason))].filter(Boolean);
  return [
    el("p", {}, `Of ${plans.length} VMs, ${shares.map(([count, text]) => `${count} ${text}`).join(", ")}${ids.length ? ":" : "."}`),
    ...(ids.length ? [victims(ids, find)] : []), ...reasons(evicting), ...others.map(reason => el("p", {}, sentence(reason))),
  ];
}

function notice(grace) {
  return grace === undefined ? "" : `, after ${Math.round(grace)} s of notice`;
}

function sentence(reason) {
  const text = plain(reason);
  return `${text[0].toUpperCase()}${text.slice(1)}${text.endsWith(".") ? "" : "."}`;
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
  return el("li", {}, el("strong", { dir: "auto" }, nameOf(vm)), el("span", { class: "note" }, about.filter(Boolean).join(" · ")));
}

/** What decided, and how certain the plans are, each said once. */
function reasons(plans) {
  const texts = plans.flatMap(({ criterion, optimal, certainty, evidence }) =>
    [criterion && `What decided: ${criterion}.`, optimal === false && "A better choice was not ruled out.",
      certaintyOf({ certainty, evidence })]);
  return [...new Set(texts)].filter(Boolean).map(text => el("p", {}, text));
}
