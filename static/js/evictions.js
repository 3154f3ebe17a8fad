// The record of an eviction as a person reads it: victim, preemptor, reason, and when each step was done.

import { el } from "./dom.js";
import { certaintyOf } from "./event_text.js";
import { vmLink } from "./navigation.js";
import { clockTime, dateTime, lasted } from "./time.js";
import { toneOf } from "./vm.js";
import { plain } from "./wording.js";

const STEPS = {
  planned_at: () => "Chosen as a victim; event sent",
  noticed_at: () => "Readable in the guest's metadata",
  acknowledged_at: ({ acknowledged_by: by }) => (by ? `Released early by ${by}` : "Released early by its guest"),
  evict_at: ({ evicting_at: begun, reprieved_at: reprieved }) => (begun || reprieved ? "The grace period ended" : "The grace period ends"),
  reprieved_at: () => "Reprieved",
  evicting_at: () => "Eviction began",
  stopped_at: () => "Guest shut down",
  deleted_at: () => "The cloud took the delete",
  freed_at: () => "Gone from the cloud: its capacity is free",
  fulfilled_at: ({ request }) => `${request?.name ?? "The preemptor"} is active`,
};
/** Why a VM was chosen for which no request waits. */
export const reasonOf = ({ reason }) => REASONS[reason] || reason;

const REASONS = { capacity: "", lifetime: "Its lifetime ended", simulated: "Practised by its owner" };

/** One eviction. `whose` is the vmsvc id of the VM whose details are shown: the victim's or the preemptor's. */
export function evictionElement(record, whose, open) {
  return el("details", { class: "record", open, "data-id": record.id },
    el("summary", {}, el("strong", {}, titleOf(record, whose)),
      el("span", { class: "chip", "data-tone": toneOf(record.state) }, record.state),
      el("time", { datetime: record.planned_at, class: "note" }, dateTime(Date.parse(record.planned_at)))),
    facts(record, whose), timeline(record));
}

function titleOf({ vm, request, reason }, whose) {
  if (request?.vmsvc_id === whose) {
    return `${vm.name} freed capacity`;
  }
  return request ? `Capacity for ${request.name}` : reasonOf({ reason });
}

function facts({ vm, request, bin, criterion, cost, runner_up: next, optimal, certainty, evidence, wasted, round, delivery, exempt }, whose) {
  const rows = [
    request && request.vmsvc_id !== whose ? ["Capacity for", vmLink(request.vmsvc_id, request.name)] : ["", ""],
    vm.vmsvc_id !== whose ? ["Victim", vmLink(vm.vmsvc_id, vm.name)] : ["", ""],
    ["Where", plain(bin)],
    ["Decided by", criterion],
    ["Cost of the plan", costOf(cost)],
    ["Runner-up", next ? costOf(next, cost) : ""],
    ["Certainty", certaintyOf({ certainty, evidence })],
    ["Round", round > 1 ? String(round) : ""],
    ["Note", optimal === false ? "A better plan was not ruled out." : ""],
    ["For nothing", plain(wasted)],
    ["Notice", delivery === "event" ? "By the event alone: the cloud let none be written for the guest." : ""],
    ["Could not be evicted", exempt],
  ].filter(([, text]) => text);
  return el("dl", { class: "facts" }, ...rows.map(([term, text]) =>
    el("div", {}, el("dt", {}, term), el("dd", {}, text))));
}

/**
 * What a plan costs, as plans are compared: victims by priority, how many ever ran, lost work. Part of the latter may be a
 * surcharge, which nobody lost; of the next best plan (`best`: the cost of the best one) only the sum is known.
 */
function costOf({ victims_by_priority: victims, running_victims: ran, lost_work: work, surcharge } = {}, best = null) {
  if (!victims) {
    return "";
  }
  const of = Object.entries(victims).map(([priority, count]) => `${count} of priority ${priority}`).join(", ");
  const number = amount => Math.round(amount).toLocaleString();
  const lost = work === undefined ? [] : surcharge ?? best?.surcharge
    ? (best ? [`${number(work)} for lost work and owners together`]
      : [`${number(work - surcharge)} vCPU-seconds of work lost`, `${number(surcharge)} more because its owners lost VMs lately`])
    : [`${number(work)} vCPU-seconds of work lost`];
  return [of, `${ran} running`, ...lost].join(" · ");
}

function timeline(record) {
  const begun = Date.parse(record.planned_at);
  const over = record.freed_at || record.reprieved_at || ["deleted", "lost"].includes(record.state);
  const steps = Object.keys(STEPS)
    // A victim that was released early, or that left by itself, did not reach its deadline.
    .filter(step => record[step] && !(step === "evict_at" && over && endedEarly(record)))
    .map(step => ({ step, at: Date.parse(record[step]), label: STEPS[step](record) }))
    .sort((one, other) => one.at - other.at);
  return el("ol", { class: "timeline" }, ...steps.map(({ step, at, label }) =>
    el("li", { "data-step": step, "data-open": step === "evict_at" && !over && !record.evicting_at },
      el("time", { datetime: record[step], title: dateTime(at) }, clockTime(at)),
      el("span", { class: "after" }, step === "planned_at" ? "" : `+${lasted(at - begun)}`),
      el("span", {}, label))));
}

function endedEarly({ evict_at: due, evicting_at: begun, reprieved_at: reprieved }) {
  const end = Date.parse(begun ?? reprieved ?? "");
  return Number.isNaN(end) || end < Date.parse(due);
}
