import { nameOf } from "./vm.js";

const MOST_NAMES = 5;

/** The answer to a dry run in words. `find` knows the VMs. */
export function describe(plan, find) {
  const sentence = { placed, evicts, waits, refused }[plan.result]?.(plan, find) ?? JSON.stringify(plan);
  const full = plan.if_no_host_has_room;
  return full ? `${sentence} If no host has room: ${describe(full, find)}` : sentence;
}

function placed({ host }) {
  return `It would be placed${host ? ` on ${host}` : ""}; nobody would be evicted.`;
}

function evicts({ victims, criterion }, find) {
  const names = victims.map(id => {
    const vm = find(id);
    return vm ? nameOf(vm) : String(id);
  });
  const rest = names.length - MOST_NAMES;
  const listed = rest > 0 ? `${names.slice(0, MOST_NAMES).join(", ")} and ${rest} more` : names.join(", ");
  return `It would evict ${listed}${criterion ? ` (decided by: ${criterion})` : ""}.`;
}

function waits({ reason }) {
  return `It would wait for room that is on its way${reason ? `: ${reason}` : ""}. Nobody would be evicted.`;
}

function refused({ reason }) {
  return `It would be refused: ${reason}`;
}
