// An answer of `GET capacity` as bars. Read tolerantly: a tenant sees no hosts, a cloud may have no limit.

const CLASSES = {
  VCPU: ["vCPU", count], cores: ["vCPU", count],
  MEMORY_MB: ["RAM", mebibytes], ram: ["RAM", mebibytes],
  DISK_GB: ["Disk", gibibytes],
  instances: ["VMs", count],
};
const ORDER = ["instances", "VCPU", "cores", "MEMORY_MB", "ram", "DISK_GB"];
const PARTS = ["standard", "preemptible", "reserved", "free"];

function count(amount) {
  return amount.toLocaleString();
}

function mebibytes(amount) {
  return amount >= 1024 ? `${Number((amount / 1024).toFixed(1)).toLocaleString()} GiB` : `${amount} MiB`;
}

function gibibytes(amount) {
  return amount >= 1024 ? `${Number((amount / 1024).toFixed(1)).toLocaleString()} TiB` : `${amount} GiB`;
}

function classesOf(...vectors) {
  const names = new Set(vectors.flatMap(vector => Object.keys(vector ?? {})));
  const rank = name => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);
  return [...names].sort((one, other) => rank(one) - rank(other) || one.localeCompare(other));
}

function measure(name, total, { used = 0, preemptible = 0, reserved = 0, standard = null, free = null }) {
  const [title, unit] = CLASSES[name] ?? [name, count];
  const held = standard ?? Math.max(0, used - preemptible);
  return {
    title, unit, total,
    amounts: {
      standard: held, preemptible, reserved,
      free: free ?? (total === null ? 0 : total - held - preemptible - reserved),
    },
  };
}

function quotaBin({ limit = {}, used = {}, reserved = {}, reclaimable = {} }) {
  const measures = classesOf(limit, used).map(name => {
    // Nova writes "no limit" as -1.
    const total = limit[name] === undefined || limit[name] === null || limit[name] < 0 ? null : limit[name];
    return measure(name, total, {
      used: used[name], preemptible: reclaimable[name] ?? 0, reserved: reserved[name] ?? 0,
    });
  });
  return { name: "quota:", title: "Quota", available: true, measures };
}

function hostBin(host) {
  const total = host.capacity ?? {};
  const measures = classesOf(total).map(name => measure(name, total[name], {
    used: host.used?.[name], standard: host.standard?.[name] ?? null, preemptible: host.preemptible?.[name] ?? 0,
    reserved: host.reserved?.[name] ?? 0, free: host.free?.[name] ?? null,
  }));
  return { name: `host:${host.name}`, title: host.name, available: host.available !== false, measures };
}

function sumOf(hosts) {
  const sums = new Map();
  for (const { title, unit, total, amounts } of hosts.flatMap(({ measures }) => measures)) {
    const sum = sums.get(title) ?? { title, unit, total: 0, amounts: { standard: 0, preemptible: 0, reserved: 0, free: 0 } };
    sum.total += total;
    PARTS.forEach(part => { sum.amounts[part] += amounts[part]; });
    sums.set(title, sum);
  }
  return { name: "all:", title: `${hosts.length} ${hosts.length === 1 ? "host" : "hosts"}`, available: true,
    measures: [...sums.values()] };
}

/** `wholes`: all hosts together and the quota; `hosts`: one by one. Each has name, title, available, measures. */
export function bins({ quota, hosts = [] }) {
  const single = (hosts ?? []).map(hostBin);
  const up = single.filter(({ available }) => available);
  return {
    wholes: [...(up.length ? [sumOf(up)] : []), ...(quota ? [quotaBin(quota)] : [])],
    hosts: single,
  };
}

/** How many VMs of each flavor fit, as texts: name, size, now, later. */
export function fits({ flavors = [] }) {
  const known = amount => (amount === null || amount === undefined ? "?" : count(amount));
  return (flavors ?? []).map(flavor => ({
    name: String(flavor.name ?? flavor.id),
    size: flavor.vcpus ? `${flavor.vcpus} × ${mebibytes(flavor.ram_mb ?? flavor.ram ?? 0)}` : "",
    now: known(flavor.fits_now),
    later: known(flavor.fits_after_evictions),
  }));
}
