// What is known of one VM, as the terms and texts of a list.

import { el } from "./dom.js";
import { certaintyOfNotice, criterionOf, preemptorOf } from "./event_text.js";
import { vmLink } from "./navigation.js";
import { age, countdown, dateTime } from "./time.js";
import {
  createdOf, flavorOf, hostOf, imageOf, isOurs, isWithoutRow, kindOf, positionOf, restartsLeftOf, stateOf, statusNote, toneOf,
} from "./vm.js";

const KIND_WORDS = { standard: "standard", preemptible: "preemptible", foreign: "not made by vmsvc" };
const NO_RECORD = "made by vmsvc, but no record here knows it: see docs/how-to/runbook.md, “The database is lost”";

/** The facts of a VM at a moment (null: not known yet); `find` looks up a VM by id, `waiting` says why its state lasts. */
export function factElements(vm, now, find, waiting) {
  const facts = [...lifeOf(vm, now, waiting), ...noticeOf(vm, now, find), ...namesOf(vm)];
  return facts.filter(([, value]) => value).map(([term, value, note]) => el("div", {}, el("dt", {}, term),
    el("dd", { dir: "auto" }, value, note instanceof Node ? note : note ? el("span", { class: "note" }, note) : "")));
}

/** Show what is left now in all countdowns of a list. */
export function tickFacts(list, now) {
  for (const note of list.querySelectorAll("[data-until]")) {
    const text = leftUntil(Number(note.dataset.until), now);
    if (note.textContent !== text) {
      note.textContent = text;
    }
  }
}

function leftUntil(moment, now) {
  return now === null || !Number.isFinite(moment) || moment <= now ? "" : `in ${countdown(moment - now)}`;
}

function countdownTo(moment, now) {
  return el("span", { class: "note", "data-until": moment, role: "timer", "aria-live": "off" }, leftUntil(moment, now));
}

function lifeOf(vm, now, waiting) {
  const created = createdOf(vm);
  const state = stateOf(vm);
  const until = Date.parse(vm.wait_until ?? "");
  const left = restartsLeftOf(vm);
  return [
    ["State", el("span", { class: "chip", "data-tone": toneOf(state) }, state), waiting || statusNote(vm)],
    ["Kind", isWithoutRow(vm) ? NO_RECORD : KIND_WORDS[kindOf(vm)]],
    ["Created", dateTime(created), now === null || Number.isNaN(created) ? "" : `${age(now - created)} ago`],
    ["Position in the queue", Number.isNaN(positionOf(vm)) ? "" : String(positionOf(vm))],
    ["Waits until", state === "pending" ? dateTime(until) : "", countdownTo(until, now)],
    ["Priority", kindOf(vm) === "preemptible" ? String(vm.priority ?? 0) : ""],
    ["Restarts left", Number.isNaN(left) ? "" : String(left)],
    ["Group", vm.group ? `${vm.group}, at most ${vm.max_unavailable ?? 1} at once` : ""],
    ["Owner", vm.owner],
  ];
}

function noticeOf(vm, now, find) {
  const deadline = Date.parse(vm.evict_at ?? "");
  const state = stateOf(vm);
  const preemptor = preemptorOf({ vm }, find);
  const ahead = state === "noticed" && !(now !== null && deadline <= now);
  return [
    [ahead ? "Will be evicted at" : "Its notice ended at", dateTime(deadline), ahead ? countdownTo(deadline, now) : ""],
    ["Capacity for", preemptor && (state === "noticed" || state === "evicting") ? vmLink(preemptor.id, preemptor.name) : ""],
    ["Decided by", criterionOf({ vm })],
    ["Certainty", certaintyOfNotice({ vm })],
  ];
}

function namesOf(vm) {
  return [
    ["Flavor", flavorOf(vm)],
    ["Host", hostOf(vm)],
    ["Image", imageOf(vm)],
    ["Network", vm.network],
    ["Addresses", addressesOf(vm)],
    ["Fault", vm.fault?.message ?? vm.fault],
    ["Cloud's id", vm.id === vm.vmsvc_id ? "" : vm.id],
    ["vmsvc's id", isOurs(vm) ? vm.vmsvc_id : ""],
  ];
}

function addressesOf({ addresses }) {
  return Object.entries(addresses ?? {})
    .flatMap(([network, ports]) => (Array.isArray(ports) ? ports : []).map(({ addr }) => `${addr} (${network})`))
    .join(", ");
}
