// An answer of `GET capacity` as bars. Read tolerantly: a tenant sees hosts by evidence, a cloud may have no limit.

const CLASSES = {
  VCPU: ["vCPU", count], cores: ["vCPU", count],
  MEMORY_MB: ["RAM", mebibytes], ram: ["RAM", mebibytes],
  DISK_GB: ["Disk", gibibytes],
  instances: ["VMs", count],
};
const ORDER = ["instances", "VCPU", "cores", "MEMORY_MB", "ram", "DISK_GB"];
/** What a bar is made of, in this order. `foreign` is held by what vmsvc did not make. */
export const PARTS = ["standard", "preemptible", "foreign", "reserved", "free"];

function count(amount) {
  return amount.toLocaleString();
}

/** An amount of memory in words. */
export function mebibytes(amount) {
  return amount % 1024 && amount < 1024 ? `${amount} MiB` : gibibytes(amount / 1024);
}

function gibibytes(amount) {
  const [size, unit] = amount >= 1024 ? [amount / 1024, "TiB"] : [amount, "GiB"];
  return `${Number(size.toFixed(1)).toLocaleString()} ${unit}`;
}

function classesOf(...vectors) {
  const names = new Set(vectors.flatMap(vector => Object.keys(vector ?? {})));
  const rank = name => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);
  return [...names].sort((one, other) => rank(one) - rank(other) || one.localeCompare(other));
}

/** One class of a bin. What is used and neither standard nor preemptible is foreign. */
function measure(name, total, bin) {
  const [title, unit] = CLASSES[name] ?? [name, count];
  const of = part => Math.max(0, bin[part]?.[name] ?? 0);
  const [standard, preemptible, reserved] = [of("standard"), of("preemptible"), of("reserved")];
  const foreign = bin.foreign ? of("foreign") : Math.max(0, of("used") - standard - preemptible);
  const left = total === null ? 0 : Math.max(0, total - standard - preemptible - foreign - reserved);
  const free = bin.available === false ? 0 : bin.free?.[name] ?? left;
  return { title, unit, total, amounts: { standard, preemptible, foreign, reserved, free: Math.max(0, free) } };
}

function quotaBin(quota) {
  const { limit = {}, used = {} } = quota;
  const measures = classesOf(limit, used).map(name => {
    const unlimited = limit[name] === undefined || limit[name] === null || limit[name] < 0;
    // Without a limit the answer has no `free` either; what it may say there is no measure.
    return unlimited ? measure(name, null, { ...quota, free: {} }) : measure(name, limit[name], quota);
  });
  return { name: "quota:", title: "Quota", available: true, measures };
}

const SHOWN_OF_ID = 8;
const naturally = new Intl.Collator(undefined, { numeric: true });

function hostBin(host) {
  const total = host.capacity ?? {};
  const id = host.host_id;
  return {
    name: `host:${host.name}`, title: id ? `Host ${id.slice(0, SHOWN_OF_ID)}` : host.name,
    available: host.available !== false, byEvidence: Boolean(id), words: evidenceOf(host),
    measures: classesOf(total).map(name => measure(name, total[name], host)),
  };
}

/** What there is evidence for on a host of a tenant, in sentences; "" on a host that is known. */
function evidenceOf({ host_id: id, evidence = [], refusals = [] }) {
  if (!id) {
    return "";
  }
  const words = evidence.map(({ words: text }) => text);
  const since = refusals.length ? ["since then the cloud refused a request that should have fitted"] : [];
  return [...words, ...since].join("; ") || "only what is held there now is known";
}

function sumOf(hosts) {
  const sums = new Map();
  for (const { title, unit, total, amounts } of hosts.flatMap(({ measures }) => measures)) {
    const sum = sums.get(title) ?? {
      title, unit, total: 0, amounts: Object.fromEntries(PARTS.map(part => [part, 0])),
    };
    sum.total += total;
    PARTS.forEach(part => { sum.amounts[part] += amounts[part]; });
    sums.set(title, sum);
  }
  const title = `${hosts.length} ${hosts.length === 1 ? "host" : "hosts"}${
    hosts.some(({ byEvidence }) => byEvidence) ? ", by evidence" : ""}`;
  return { name: "all:", title, available: true, measures: [...sums.values()] };
}

/** vCPU and RAM always; anything else on the tiles of hosts only when one of them runs short of it. */
function scarce(up) {
  const short = new Set(["vCPU", "RAM", ...up.flatMap(({ measures }) => measures)
    .filter(({ total, amounts }) => amounts.free < total / 4).map(({ title }) => title)]);
  return ({ title }) => short.has(title);
}

/** `wholes`: all hosts together and the quota; `hosts`: one by one. Each has name, title, available, measures. */
export function bins({ quota, hosts = [] }) {
  const single = (hosts ?? []).map(hostBin).sort((one, other) => naturally.compare(one.title, other.title));
  const up = single.filter(({ available }) => available);
  return {
    wholes: [...(up.length ? [sumOf(up)] : []), ...(quota ? [quotaBin(quota)] : [])],
    hosts: single.map(bin => ({ ...bin, measures: bin.measures.filter(scarce(up)) })),
  };
}

const NOW = { title: "Now", of: "fits_now", why: "Without an eviction" };
const LATER = { title: "With evictions", of: "fits_after_evictions", why: "Of standard VMs" };
const BY_EVIDENCE = { title: "By evidence", of: "fits_by_evidence",
  why: "On the hosts for which there is evidence. There may be more hosts, and others may fill these" };
const BY_QUOTA = { title: "By quota", of: "fits_now", why: "The quota allows so many; the hosts may hold fewer" };

/** How many VMs of each flavor fit: `columns` with a title and why, and `rows` with the name, the size and the texts. */
export function fits({ mode, flavors = [] }) {
  const known = amount => (amount === null || amount === undefined ? "?" : count(amount));
  const columns = mode !== "tenant" ? [NOW, LATER]
    : flavors?.some(({ fits_by_evidence: amount }) => amount !== undefined) ? [BY_EVIDENCE, BY_QUOTA] : [BY_QUOTA, LATER];
  const rows = (flavors ?? []).map(flavor => ({
    name: String(flavor.name ?? flavor.id),
    size: flavor.vcpus ? `${flavor.vcpus} × ${mebibytes(flavor.ram_mb ?? flavor.ram ?? 0)}` : "",
    texts: columns.map(({ of }) => known(flavor[of])),
  }));
  return { columns, rows };
}

/** All vCPUs there are: of the hosts that are known and up, else by the quota; null when there is no limit. */
export function totalOf({ quota, hosts }) {
  const up = (hosts ?? []).filter(({ available, host_id: id }) => available !== false && !id);
  const limit = quota?.limit?.cores;
  return up.length ? up.reduce((sum, { capacity }) => sum + (capacity?.VCPU ?? 0), 0) : (limit > 0 ? limit : null);
}
