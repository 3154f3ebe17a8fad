// The page: everything is made and joined here.

import { Access } from "./access.js";
import { Actions } from "./actions.js";
import { Announcer } from "./announcer.js";
import { Api } from "./api.js";
import { Backoff } from "./backoff.js";
import { totalOf } from "./capacity.js";
import { ServerClock } from "./clock.js";
import { ConfirmDialog } from "./confirm.js";
import { Connection } from "./connection.js";
import { CreateDialog } from "./create.js";
import { DetailsDialog } from "./details.js";
import { byId, write } from "./dom.js";
import { EvictionsDialog } from "./eviction_list.js";
import { Health } from "./health.js";
import { EventLog } from "./log.js";
import { Navigation } from "./navigation.js";
import { Notices } from "./notices.js";
import { Notifier } from "./notify.js";
import { Poll } from "./poll.js";
import { CapacityPanel } from "./capacity_panel.js";
import { Session } from "./session.js";
import { Store } from "./store.js";
import { EventStream } from "./stream.js";
import { Strip } from "./strip.js";
import { Table } from "./table.js";
import { clockTime } from "./time.js";
import { WebhooksDialog } from "./webhooks.js";

// Often enough that no second is shown visibly late.
const TICK = 200;
const HEALTH_EVERY = 5_000;

const clock = new ServerClock();
const session = new Session();
const api = new Api(clock, session);
const access = new Access(api);
const store = new Store();
const stream = new EventStream({
  // A browser cannot send a token with a WebSocket; a ticket takes its place.
  url: async since => Api.eventsUrl(since, session.signedIn ? (await api.ticket()).ticket : null),
  latest: async since => (await api.history({ since, limit: 1 })).events.at(-1)?.data.seq ?? since,
});
const find = id => store.get(id);
const health = new Health(clock, HEALTH_EVERY, () => healthPoll.soon());
const connection = new Connection(stream, health);
const table = new Table(store, clock, health, access);
const capacityPanel = new CapacityPanel();
const log = new EventLog(query => api.history(query), find);
const notices = new Notices(store, clock, new Announcer(), access);
const details = new DetailsDialog(api, clock, find, health, access);
const confirmation = new ConfirmDialog();
const actions = new Actions(api, confirmation, vm => { store.put(vm); details.show(vm); });
const notifier = new Notifier(clock, find);
const strip = new Strip();
const creation = new CreateDialog(api, store);
const webhooks = new WebhooksDialog(api, confirmation);
const evictions = new EvictionsDialog(api, access);

const healthPoll = new Poll(() => api.ready().catch(() => null).then(checked), { least: 1_000, most: HEALTH_EVERY });
// Signing in is no step: there is nothing to go back to.
const dialogs = [...document.querySelectorAll("dialog:not(#sign-in-dialog)")];
const navigation = new Navigation(dialogs, [details.place, evictions.place]);

const capacity = new Poll(measure, { least: 1_500, most: 10_000 });
// The chart moves on even when nothing happens.
const use = new Poll(() => api.usage(strip.hours).then(usage => strip.show(usage), () => {}), { least: 3_000, most: 30_000 });
// Servers made elsewhere have no events. A long list is read more seldom.
const list = new Poll(refresh, { least: 5_000, most: () => Math.max(60_000, 60 * store.size) });
let reading = null;

/** The list, read once however many ask meanwhile. Resolves with its seq. */
function readList() {
  reading ??= store.read(() => api.list()).finally(() => { reading = null; });
  return reading;
}

/** Begin with the list, however long it takes, and go on from its seq. */
async function begin() {
  const backoff = new Backoff(1_000);
  for (;;) {
    try {
      goOn(await readList());
      return;
    } catch (error) {
      connection.explain(error.message);
      table.explain(error.message);
      log.explain(error.message);
      await new Promise(resolve => { setTimeout(resolve, backoff.next()); });
    }
  }
}

function goOn(seq) {
  log.start(seq);
  stream.start(seq);
  byId("sign-out").hidden = !session.signedIn;
  access.read();
  navigation.start();
  tick();
}

async function refresh() {
  const { since } = stream;
  const seq = await readList().catch(() => since);
  if (seq < since) {
    // The numbers began anew: another database. What was seen before counts for nothing.
    goOn(seq);
  }
}

async function measure() {
  try {
    const measured = await api.capacity();
    capacityPanel.show(measured, clock.now());
    strip.limit(totalOf(measured));
  } catch (error) {
    capacityPanel.explain(error.message);
  }
}

/** An answer about the service's health, or null. When the cloud is back, its capacity is read at once. */
function checked(answer) {
  const wasAway = health.cloudIsAway;
  health.show(answer);
  if (wasAway && !health.cloudIsAway) {
    capacity.soon();
  }
  tick();
}

/** Which release runs; another one may after a lost connection. */
async function nameRelease() {
  const { version } = await api.health().catch(() => ({}));
  write(byId("version"), version ?? "");
}

function tick() {
  const now = clock.now();
  write(byId("server-time"), now === null ? "" : clockTime(now));
  connection.tick();
  store.sweep();
  if (!document.hidden) {
    // All count down to the same second at the same moment.
    notices.tick();
    table.tick();
    health.tick();
    details.tick();
    capacityPanel.tick(now, health);
  }
}

stream.addEventListener("event", ({ detail }) => {
  clock.eventReceived(detail.time);
  store.apply(detail);
  log.add(detail);
  notifier.eventReceived(detail);
  capacity.soon();
  use.soon();
});
stream.addEventListener("stale", begin);
session.addEventListener("signed-in", () => access.read());
stream.addEventListener("state", ({ detail }) => { if (detail.name === "live") { healthPoll.soon(); capacity.soon(); use.soon(); nameRelease(); } });
strip.addEventListener("range", () => use.soon());

store.addEventListener("event", ({ detail }) => details.refresh(detail.vm));
table.addEventListener("open", ({ detail }) => details.show(detail));
notices.addEventListener("open", ({ detail }) => details.show(detail));
log.addEventListener("open", ({ detail: event }) => {
  details.show(find(event.data.vm?.vmsvc_id) ?? event.data.vm ?? { id: event.subject }, event);
});
for (const part of [table, details, notices]) {
  for (const action of ["remove", "practise", "release", "endRestarts"]) {
    part.addEventListener(action, ({ detail }) => actions[action](detail));
  }
}
details.addEventListener("shown", () => navigation.changed());
confirmation.addEventListener("closed", () => table.focus());

byId("open-evictions").addEventListener("click", () => evictions.open());
byId("open-webhooks").addEventListener("click", () => webhooks.open());
byId("sign-out").addEventListener("click", () => { session.clear(); window.location.reload(); });

setInterval(tick, TICK);
healthPoll.soon();
capacity.soon();
use.soon();
list.later();
begin();
