import { nameOf } from "./vm.js";
import { clockTime } from "./time.js";

/** A machine's slug as words. */
export function plain(slug) {
  return String(slug ?? "").replaceAll("_", " ").trim();
}

/** What is known about a notice: the event's data, and what the VM itself carries. */
function noticeOf(data) {
  return { ...data.vm?.notice, ...data };
}

/** What decided that it was this victim, in words, or "" when it is not said. */
export function criterionOf(data) {
  const notice = noticeOf(data);
  const said = notice.decided_by ?? notice.criterion ?? "";
  return plain(typeof said === "object" ? said.text ?? said.criterion ?? said.name : said);
}

/** What a victim makes room for, as {id, name}, or null. `find` knows the VMs. */
export function preemptorOf(data, find = () => undefined) {
  const notice = noticeOf(data);
  const said = notice.makes_room_for ?? notice.room_for ?? notice.preemptor ?? notice.for ?? null;
  if (said === null) {
    return null;
  }
  const id = typeof said === "object" ? said.vmsvc_id ?? said.id : said;
  const known = find(id);
  const name = (typeof said === "object" && said.name) || (known && nameOf(known)) || String(id);
  return { id, name };
}

/** When a victim goes, in milliseconds since the epoch, or NaN. */
export function deadlineOf(data) {
  return Date.parse(data.evict_at ?? data.vm?.evict_at ?? "");
}

/** One event as a short sentence, without the VM's name; `find` knows the VMs. */
export function sentenceOf({ type, data }, find) {
  const reason = typeof data.reason === "string" ? plain(data.reason) : "";
  if (type !== "evict" || data.state !== "noticed") {
    return reason;
  }
  const preemptor = preemptorOf(data, find);
  const deadline = deadlineOf(data);
  return [
    Number.isFinite(deadline) && `until ${clockTime(deadline)}`,
    preemptor && `room for ${preemptor.name}`,
    criterionOf(data) || reason,
  ].filter(Boolean).join(" · ");
}
