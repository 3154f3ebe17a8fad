import { flavorOf, hostOf, kindOf, nameOf } from "./vm.js";
import { clockTime } from "./time.js";
import { plain } from "./wording.js";

/** The data of a notice: what the VM carries, and the event's data. */
function noticeOf({ vm, ...data }) {
  return { ...vm?.notice, ...data };
}

/** The criterion that decided for this victim, in words, or "". */
export function criterionOf(data) {
  return String(noticeOf(data).criterion ?? "");
}

/** How certain a plan is, as a sentence; "" where nobody says. */
export function certaintyOf({ certainty, evidence }) {
  if (certainty === "likely") {
    return `Likely, not sure: ${evidence ?? "it counts on capacity for which there is evidence"}.`;
  }
  return certainty === "sure" ? "Sure: all that the plan counts on is known." : "";
}

/** True for a victim whose plan is only likely. */
export function isLikely(data) {
  return noticeOf(data).certainty === "likely";
}

/** How certain the plan is that a victim belongs to, as a sentence. */
export function certaintyOfNotice(data) {
  return certaintyOf(noticeOf(data));
}

/** The preemptor that a victim is evicted for, as {id, name}, or null. `find` looks up a VM by id. */
export function preemptorOf(data, find = () => undefined) {
  const { makes_room_for: ofEvent, for: ofVm, request } = noticeOf(data);
  const id = ofEvent ?? ofVm ?? null;
  if (id === null) {
    return null;
  }
  const vm = find(id);
  return { id, name: vm ? nameOf(vm) : String(request ?? id) };
}

/** The end of a victim's notice, in milliseconds since the epoch, or NaN. */
export function deadlineOf(data) {
  return Date.parse(data.evict_at ?? data.vm?.evict_at ?? "");
}

/** The whole length of a notice in milliseconds, or NaN. */
export function graceOf(data) {
  return Number(noticeOf(data).grace_seconds ?? NaN) * 1000;
}

/** Kind, flavor and host in a few words. */
export function outlineOf(vm) {
  return [{ standard: "standard", preemptible: "preemptible" }[kindOf(vm)], flavorOf(vm), hostOf(vm)]
    .filter(Boolean).join(" · ");
}

/** One event as a short sentence, without the VM's name; `find` looks up a VM by id. */
export function sentenceOf({ type, data }, find) {
  const reason = plain((data.reason === "deadline" && data.message) || data.reason);
  if (type === "create" && data.state === "queued") {
    const until = Date.parse(data.wait_until ?? "");
    return [`position ${data.position}`, Number.isFinite(until) && `until ${clockTime(until)}`, plain(data.why)]
      .filter(Boolean).join(" · ");
  }
  if (type !== "evict" || data.state !== "noticed") {
    return reason;
  }
  const preemptor = preemptorOf(data, find);
  const deadline = deadlineOf(data);
  return [
    Number.isFinite(deadline) && `until ${clockTime(deadline)}`,
    preemptor && `capacity for ${preemptor.name}`,
    criterionOf(data) || reason,
    isLikely(data) && "likely",
    noticeOf(data).delivery === "event" && "its guest cannot read this",
  ].filter(Boolean).join(" · ");
}
