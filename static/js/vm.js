// A VM as the service shows it, read tolerantly: rows of the list, `vm` of an event, servers made elsewhere.

/** One VM is one key: vmsvc's own id when it is ours, for a request has no server yet; else the cloud's. */
export function keyOf(vm) {
  return vm.vmsvc_id ?? vm.id;
}

export function isOurs(vm) {
  return vm.vmsvc_id !== undefined && vm.vmsvc_id !== null;
}

/** `standard`, `preemptible`, or `foreign` for a server that vmsvc did not make. */
export function kindOf(vm) {
  if (!isOurs(vm)) {
    return "foreign";
  }
  return vm.is_preemptible ? "preemptible" : "standard";
}

/** True of a server that carries a mark of vmsvc though no record here knows it: `python -m vmsvc adopt`. */
export function isWithoutRow(vm) {
  return !isOurs(vm) && Boolean(vm.metadata?.vmsvc_id);
}

/** Where it is in its life, in one lower-case word. */
export function stateOf(vm) {
  return String(vm.state ?? vm.status ?? "unknown").toLowerCase();
}

/** How the state is shown: `good`, `busy`, `warn`, `leaving`, `bad`, `off` or `gone`. */
export function toneOf(state) {
  return TONES[state] ?? "off";
}

const TONES = {
  active: "good", reprieved: "good",
  pending: "busy", queued: "busy", fell_back: "busy", building: "busy", build: "busy",
  noticed: "warn",
  evicting: "leaving", deleting: "leaving",
  failed: "bad", error: "bad", lost: "bad",
  evicted: "gone", deleted: "gone",
};

/** The states that nothing leads out of. */
export const FINAL = new Set(["evicted", "deleted", "failed", "lost"]);

/** Nova's own word when it says more than ours: an active VM that is switched off, for example. */
export function statusNote(vm) {
  const status = String(vm.status ?? "").toLowerCase();
  const expected = { active: "active", noticed: "active", building: "build" }[vm.state];
  return expected && status && status !== expected && vm.state !== "building" ? status : "";
}

/** Its position in the queue, or NaN: it does not wait there. */
export function positionOf(vm) {
  return stateOf(vm) === "pending" ? Number(vm.position ?? NaN) : NaN;
}

export function nameOf(vm) {
  return String(vm.name || vm.id || vm.vmsvc_id || "unnamed");
}

export function flavorOf(vm) {
  const { flavor } = vm;
  if (flavor && typeof flavor === "object") {
    return String(flavor.original_name ?? flavor.name ?? flavor.id ?? "");
  }
  return String(flavor ?? "");
}

/** The name of its image; the cloud's id where no name is known. */
export function imageOf({ image, image_name: name }) {
  return String(name ?? (image && typeof image === "object" ? image.id : image) ?? "");
}

/** How often it may still be started again, or NaN: it is not, or that is not known. */
export function restartsLeftOf(vm) {
  return vm.on_eviction === "restart" ? Number(vm.restarts_left ?? NaN) : NaN;
}

/** True when it is started again after an eviction, which its owner can end. */
export function mayEndRestarts(vm) {
  return vm.on_eviction === "restart" && !FINAL.has(stateOf(vm));
}

/** The host's name for an operator; for a tenant the beginning of the hash that stands for it. */
export function hostOf(vm) {
  const host = vm.host ?? vm["OS-EXT-SRV-ATTR:host"];
  return String(host ?? (vm.hostId ?? vm.host_id ?? "").slice(0, 8));
}

/** When it was created, in milliseconds since the epoch, or NaN. */
export function createdOf(vm) {
  return Date.parse(vm.created ?? vm.created_at ?? "");
}

/** True when the service would delete it. */
export function isDeletable(vm) {
  return isOurs(vm) && !FINAL.has(stateOf(vm)) && !["deleting", "evicting"].includes(stateOf(vm));
}

/** True when its eviction can be practised. */
export function isPractisable(vm) {
  return kindOf(vm) === "preemptible" && stateOf(vm) === "active";
}

/** True when it was noticed and can still be released before its time. */
export function isReleasable(vm) {
  return isOurs(vm) && stateOf(vm) === "noticed" && !vm.acknowledged_at;
}
