import { flavorOf, hostOf, kindOf, nameOf } from "./vm.js";
import { clockTime } from "./time.js";

/** What is known about a notice: what the VM itself carries, and the event's data. */
function noticeOf({ vm, ...data }) {
  return { ...vm?.notice, ...data };
}

/** What decided that it was this victim, in words, or "" when it is not said. */
export function criterionOf(data) {
  return String(noticeOf(data).criterion ?? "");
}

/** What a victim makes room for, as {id, name}, or null. `find` knows the VMs. */
export function preemptorOf(data, find = () => undefined) {
  const { makes_room_for: told, for: kept, request } = noticeOf(data);
  const id = told ?? kept ?? null;
  if (id === null) {
    return null;
  }
  const known = find(id);
  return { id, name: known ? nameOf(known) : String(request ?? id) };
}

/** When a victim goes, in milliseconds since the epoch, or NaN. */
export function deadlineOf(data) {
  return Date.parse(data.evict_at ?? data.vm?.evict_at ?? "");
}

/** The whole length of a notice in milliseconds, or NaN when it is not said. */
export function graceOf(data) {
  return Number(noticeOf(data).grace_seconds ?? NaN) * 1000;
}

/** What it is and where, in a few words. */
export function outlineOf(vm) {
  return [{ standard: "standard", preemptible: "preemptible" }[kindOf(vm)], flavorOf(vm), hostOf(vm)]
    .filter(Boolean).join(" · ");
}

/** One event as a short sentence, without the VM's name; `find` knows the VMs. */
export function sentenceOf({ type, data }, find) {
  const reason = String(data.reason ?? "");
  if (type !== "evict" || data.state !== "noticed") {
    return reason;
  }
  const preemptor = preemptorOf(data, find);
  const deadline = deadlineOf(data);
  return [
    Number.isFinite(deadline) && `until ${clockTime(deadline)}`,
    preemptor && `room for ${preemptor.name}`,
    criterionOf(data) || reason,
    noticeOf(data).delivery === "event" && "its guest cannot read this",
  ].filter(Boolean).join(" · ");
}
