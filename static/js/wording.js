// The service's sentences for people: the words of Nova and Placement in them, and long hashes, as a person reads them.

import { mebibytes } from "./capacity.js";

const NAMES = { VCPU: "vCPU", cores: "vCPU", DISK_GB: "GB of disk", MEMORY_MB: "MiB of RAM", ram: "MiB of RAM" };
const AMOUNT = /\b(\d+) (VCPU|cores|DISK_GB|MEMORY_MB|ram)\b/g;
const NAME = /\b(VCPU|DISK_GB|MEMORY_MB)\b/g;
// A hostId, for example. The ids of VMs have hyphens, and stay whole.
const HASH = /\b([0-9a-f]{8})[0-9a-f]{32,56}\b/g;

/** A sentence of the service in plain words. */
export function plain(text) {
  return String(text ?? "")
    .replace(AMOUNT, (_, amount, name) => (["MEMORY_MB", "ram"].includes(name) ? `${mebibytes(Number(amount))} of RAM` : `${amount} ${NAMES[name]}`))
    .replace(NAME, name => ({ ...NAMES, MEMORY_MB: "RAM", DISK_GB: "disk" })[name])
    .replace(HASH, "$1…")
    .replace(/\bhost_id\b/g, "host");
}
