import { createdOf, flavorOf, hostOf, kindOf, nameOf, stateOf } from "./vm.js";

const words = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

// The order in which states matter to somebody who watches.
const STATE_ORDER = ["noticed", "evicting", "failed", "error", "lost", "pending", "building", "deleting", "active"];

function stateRank(vm) {
  const rank = STATE_ORDER.indexOf(stateOf(vm));
  return rank < 0 ? STATE_ORDER.length : rank;
}

const byText = of => (one, other) => words.compare(of(one), of(other));
const byNumber = of => (one, other) => {
  const left = of(one);
  const right = of(other);
  // Those that lack the number come last, whatever it means.
  return (Number.isNaN(left) - Number.isNaN(right)) || (left - right) || 0;
};

const priorityOf = vm => (kindOf(vm) === "preemptible" ? Number(vm.priority ?? 0) : NaN);

/** The columns of the table: what they are called and how two VMs compare, ascending. */
export const COLUMNS = [
  { name: "name", title: "Name", compare: byText(nameOf) },
  { name: "kind", title: "Kind", compare: byText(kindOf) },
  { name: "state", title: "State", compare: byNumber(stateRank) },
  { name: "flavor", title: "Flavor", compare: byText(flavorOf) },
  { name: "host", title: "Host", compare: byText(hostOf) },
  { name: "owner", title: "Owner", compare: byText(vm => String(vm.owner ?? "")) },
  { name: "priority", title: "Priority", compare: byNumber(priorityOf) },
  // The younger is the smaller age.
  { name: "age", title: "Age", compare: byNumber(vm => -createdOf(vm)) },
];

/** The VMs that match, sorted. `filter` is {text, kind, state, owner}; "" matches all. */
export function arrange(vms, { text, kind, state, owner }, { column, descending }) {
  const needle = text.trim().toLowerCase();
  const found = vms.filter(vm => (!kind || kindOf(vm) === kind) && (!state || stateOf(vm) === state)
    && (!owner || vm.owner === owner)
    && (!needle || haystack(vm).includes(needle)));
  const { compare } = COLUMNS.find(({ name }) => name === column);
  const sign = descending ? -1 : 1;
  return found.sort((one, other) => sign * compare(one, other) || words.compare(nameOf(one), nameOf(other)));
}

function haystack(vm) {
  return [nameOf(vm), vm.id, vm.vmsvc_id, flavorOf(vm), hostOf(vm), vm.owner].join("\n").toLowerCase();
}
