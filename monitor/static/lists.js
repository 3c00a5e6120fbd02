// Alerts, the notes of the autopilot, and elections.

import { ago, duration, exit, nameOf } from "./format.js";
import { arrange, icon, make, setAttribute, setText } from "./dom.js";

const alerts = document.getElementById("alerts");
const alertList = document.getElementById("alerts-list");
const exposed = document.getElementById("exposed");
const exposedNames = document.getElementById("exposed-nodes");
const elections = document.getElementById("elections");
const noElections = document.getElementById("elections-empty");
const notes = document.getElementById("autopilot");
const noNotes = document.getElementById("autopilot-empty");
const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const shown = 12;
const notesShown = 20;

const alertItems = new Map();
const electionItems = new Map();
const noteItems = new Map();
const ID = /(\([0-9a-f]{16}\))/;

/** List the problems, as [who, what]. */
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
  const exposedNodes = cluster.nodes.filter((node) => node.exposed).map(nameOf);
  setText(exposedNames, exposedNodes.join(", "));
  exposed.hidden = exposedNodes.length === 0;
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
    const where = cluster.clusters.length > 1 && one.cluster_id ? ` of ${one.cluster_id}` : "";
    setText(who, `${one.name || one.leader}${where}`);
    when.dateTime = one.at;
    setText(when, clock.format(new Date(one.at)));
    return item;
  }));
  noElections.hidden = recent.length > 0;
}

/** Show the changes that the autopilot declines now, then those that it made, newest first. */
export function showAutopilot(cluster) {
  const recent = cluster.autopilot.slice(0, notesShown);
  // A declined change keeps its place while the seconds in its reason grow.
  const keys = recent.map((note, index) => (note.kind === "declined" ? `declined ${index}` : `${note.node} ${note.at} ${note.text}`));
  keep(noteItems, new Set(keys));
  arrange(notes, recent.map((note, index) => {
    const item = remembered(noteItems, keys[index], () => make(
      "li", { "data-kind": note.kind },
      make("span", { class: "badge" }, icon(note.kind === "changed" ? "changed" : "declined"), make("span", {}, note.kind)),
      make("p"), make("span", { class: "note-age" }), make("time"),
    ));
    const [, text, , when] = item.children;
    if (text.textContent !== note.text) {
      // Ids are in small print.
      text.replaceChildren(...note.text.split(ID).map((part) => (ID.test(part) ? make("code", { class: "id" }, part) : part)));
    }
    setAttribute(item, "title", `by the autopilot of ${note.name || note.node}`);
    when.dateTime = note.at;
    setText(when, clock.format(new Date(note.at)));
    return item;
  }));
  noNotes.hidden = recent.length > 0;
}

/** Update the ages; `now` is the monitor's clock, in milliseconds. */
export function tickLists(now) {
  for (const item of [...electionItems.values(), ...noteItems.values()]) {
    const [, , age, when] = item.children;
    const seconds = (now - Date.parse(when.dateTime)) / 1000;
    setText(age, item.dataset.kind === "declined" ? `for ${duration(seconds)}` : ago(seconds));
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
