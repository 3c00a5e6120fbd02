// Alerts and elections.

import { ago, exit, nameOf } from "./format.js";
import { arrange, icon, make, setText } from "./dom.js";

const alerts = document.getElementById("alerts");
const alertList = document.getElementById("alerts-list");
const elections = document.getElementById("elections");
const noElections = document.getElementById("elections-empty");
const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const shown = 12;

const alertItems = new Map();
const electionItems = new Map();

/** Everything that somebody should look at, as [who, what]. */
function findAlerts(cluster) {
  const found = cluster.problems.map((problem) => ["monitor", problem]);
  for (const node of cluster.nodes) {
    found.push(...node.alerts.map((alert) => [nameOf(node), alert]));
    if (node.disk_stuck) {
      found.push([nameOf(node), "its disk has been stuck for longer than an election timeout"]);
    }
    if (node.hook.state === "failed") {
      const how = node.hook.exit_status === null ? "" : `: ${exit(node.hook.exit_status)}`;
      found.push([nameOf(node), `its ${node.hook.script} script failed${how}`]);
    }
  }
  return found;
}

export function showAlerts(cluster) {
  const found = findAlerts(cluster);
  const keys = found.map((alert) => JSON.stringify(alert));
  keep(alertItems, new Set(keys));
  arrange(alertList, [...new Set(keys)].map((key) => remembered(alertItems, key, () => {
    const [who, what] = JSON.parse(key);
    return make("li", {}, icon("alert"), make("span", {}, make("strong", {}, `${who}:`), ` ${what}`));
  })));
  alerts.hidden = found.length === 0;
}

/** Show the last elections, newest first. */
export function showElections(cluster) {
  const recent = cluster.elections.slice(0, shown);
  const keys = recent.map((one) => `${one.cluster_id} ${one.term}`);
  keep(electionItems, new Set(keys));
  arrange(elections, recent.map((one, index) => {
    const item = remembered(electionItems, keys[index], () => make(
      "li", {}, make("span", { class: "election-term" }), make("strong"), make("span", { class: "election-age" }), make("time"),
    ));
    const [term, who, , when] = item.children;
    setText(term, `Term ${one.term}`);
    setText(who, one.name || one.leader);
    when.dateTime = one.at;
    setText(when, clock.format(new Date(one.at)));
    return item;
  }));
  noElections.hidden = recent.length > 0;
}

/** Bring the elections' ages up to date; `now` is the monitor's clock, in milliseconds. */
export function tickElections(now) {
  for (const item of electionItems.values()) {
    const [, , age, when] = item.children;
    setText(age, ago((now - Date.parse(when.dateTime)) / 1000));
  }
}

function keep(items, keys) {
  for (const key of items.keys()) {
    if (!keys.has(key)) {
      items.delete(key);
    }
  }
}

function remembered(items, key, create) {
  if (!items.has(key)) {
    items.set(key, create());
  }
  return items.get(key);
}
