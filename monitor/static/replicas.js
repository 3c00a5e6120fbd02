// The table of replicas. It keeps rows from one document to the next, so that an opened row stays open.

import { ago, duration, exit, mebibytes, nameOf, whole } from "./format.js";
import { arrange, icon, make, setAttribute, setText } from "./dom.js";
import { changing, membersOf } from "./members.js";

const table = document.getElementById("replicas-table");
const empty = document.getElementById("replicas-empty");
const silent = document.getElementById("silent");
const rows = new Map();

const ROLES = new Map([
  ["leader", { icon: "leader", style: "leader" }],
  ["follower", { icon: "follower", style: "follower" }],
  ["candidate", { icon: "candidate", style: "unsettled" }],
  ["pre-candidate", { icon: "candidate", style: "unsettled" }],
  ["forming", { icon: "forming", style: "unsettled" }],
  ["learner", { icon: "learner", style: "learner" }],
  ["removed", { icon: "removed", style: "removed" }],
]);

/** Check whether a replica that was a member of the cluster is none any more, by its own status or the leader's. */
function isGone(node, members, cluster) {
  const left = members.size > 0 && !members.has(node.id) && node.cluster_id === cluster.cluster_id;
  return node.role === "removed" || (left && !node.reachable);
}

/** One replica: a row, and a second row with the details. */
class Replica {
  constructor(id) {
    const details = `details-${rows.size}-${Math.random().toString(36).slice(2)}`;
    this.name = make("span", { class: "name" });
    this.id = make("code", { class: "id" });
    this.toggle = make("button", { type: "button", class: "toggle", "aria-expanded": "false", "aria-controls": details }, icon("more"));
    this.toggleLabel = make("span", { class: "visually-hidden" });
    this.toggle.append(this.toggleLabel);
    this.badge = make("span", { class: "badge" });
    this.badgeText = make("span");
    this.badgeUse = icon("unknown");
    this.badge.append(this.badgeUse, this.badgeText);
    this.note = make("span", { class: "note" });
    this.leader = make("span", { class: "leader-name" });
    this.term = make("span", { class: "note" });
    this.last = make("span", { "data-index": "last" });
    this.committed = make("span", { "data-index": "committed" });
    this.applied = make("span", { "data-index": "applied" });
    this.bar = make("span", { class: "bar", "aria-hidden": "true" }, make("span"), make("span"));
    this.address = make("code");
    this.hook = make("span", { class: "hook" });
    this.hookNote = make("span", { class: "note" });
    this.age = make("td", { role: "cell", class: "number age", "data-label": "Last status" });
    this.row = make(
      "tr", { role: "row", "data-id": id },
      make("th", { role: "rowheader", scope: "row" }, make("div", { class: "who" }, this.toggle, make("span", { class: "stack" }, this.name, this.id))),
      make("td", { role: "cell", "data-label": "Role" }, make("span", { class: "stack" }, this.badge, this.note)),
      make("td", { role: "cell", "data-label": "Leader" }, make("span", { class: "stack" }, this.leader, this.term)),
      make("td", { role: "cell", class: "log", "data-label": "Log" }, make("span", { class: "indexes" }, this.last, this.committed, this.applied), this.bar),
      make("td", { role: "cell", "data-label": "Address" }, this.address),
      make("td", { role: "cell", "data-label": "Hook" }, make("span", { class: "stack" }, this.hook, this.hookNote)),
      this.age,
    );
    this.facts = make("dl", { class: "facts" });
    this.details = make("tr", { role: "row", id: details, class: "details" }, make("td", { role: "cell", colspan: "7" }, this.facts));
    this.details.hidden = true;
    this.body = make("tbody", { role: "rowgroup" }, this.row, this.details);
    this.toggle.addEventListener("click", () => {
      this.details.hidden = !this.details.hidden;
      setAttribute(this.toggle, "aria-expanded", String(!this.details.hidden));
    });
  }

  show(node, cluster, received, several) {
    this.node = node;
    this.received = received;
    const members = membersOf(cluster);
    this.member = members.get(node.id);
    this.isGone = isGone(node, members, cluster);
    setText(this.name, nameOf(node));
    setText(this.id, node.name ? node.id : "");
    setText(this.toggleLabel, `Details of ${nameOf(node)}`);
    this.showRole(node, cluster);
    // The last digits of the cluster's id tell clusters apart; the whole id is among the details.
    setText(this.term, `in term ${node.term}${several && node.cluster_id ? ` of …${node.cluster_id.slice(-4)}` : ""}`);
    this.showLog(node, cluster);
    const leader = cluster.nodes.find((other) => other.id === node.leader);
    setText(this.leader, leader ? nameOf(leader) : node.leader ?? "none");
    setAttribute(this.leader, "title", node.leader ?? "");
    this.leader.classList.toggle("absent", !node.leader);
    setText(this.address, node.address || "–");
    this.hook.className = node.hook.state === "failed" ? "hook bad" : "hook";
    this.showFacts(node);
  }

  showLog(node, cluster) {
    setText(this.last, whole(node.last_index));
    setText(this.committed, whole(node.commit_index));
    setText(this.applied, whole(node.applied_index));
    const most = Math.max(1, ...cluster.nodes.map((other) => other.last_index));
    const [last, applied] = this.bar.children;
    last.style.width = `${(100 * node.last_index) / most}%`;
    applied.style.width = `${(100 * node.applied_index) / most}%`;
  }

  showRole(node, cluster) {
    const role = ROLES.get(node.role) ?? { icon: "unknown", style: "unsettled" };
    const outdated = node.role === "leader" && node.id !== cluster.leader;
    let style = outdated ? "unsettled" : role.style;
    let text = node.role;
    let picture = role.icon;
    let note = node.forming && node.forming.waiting_for ? `waiting for ${node.forming.waiting_for}` : changing(this.member);
    if (this.isGone) {
      const was = node.role === "removed" ? "no member any more" : `was ${node.role}`;
      [style, text, picture, note] = ["removed", "removed", "removed", was];
    } else if (!node.reachable) {
      [style, text, picture, note] = ["unreachable", "unreachable", "unreachable", `was ${node.role}`];
    } else if (outdated) {
      note = `of the older term ${node.term}`;
    }
    setAttribute(this.row, "data-style", style);
    setAttribute(this.badge, "data-style", style);
    setAttribute(this.badgeUse.firstChild, "href", `#icon-${picture}`);
    if (this.badgeText.textContent && this.badgeText.textContent !== text) {
      this.row.classList.remove("changed");
      void this.row.offsetWidth; // restarts the animation
      this.row.classList.add("changed");
    }
    setText(this.badgeText, text);
    setText(this.note, note);
  }

  showFacts(node) {
    const dropped = Object.entries(node.counters ?? {}).filter(([name, value]) => name.startsWith("dropped") && value > 0);
    const forming = node.forming;
    const facts = [
      ["Votes", node.voter ? "yes" : "no"],
      ["Process", `${node.pid}, up ${duration(node.uptime_seconds)}`],
      ["Version", node.version || "–"],
      ["Protocol", protocol(node)],
      ["Cluster", node.cluster_id ?? "none yet"],
      ["Datagrams", node.sealed ? "sealed" : "not sealed"],
      ["Disk", node.disk_stuck ? "stuck" : "keeps up"],
      ["In touch with", node.peers.length ? node.peers.join(", ") : "nobody"],
      ["Script", node.hook.path || "none"],
      ["Dropped", dropped.length ? dropped.map(([name, value]) => `${value} ${name.slice(8).replaceAll("_", " ")}`).join(", ") : "none"],
      ...(node.state_quota ? [["State", `${mebibytes(node.state_bytes)} of ${mebibytes(node.state_quota)} MiB`]] : []),
      ["Log", node.log_lines_dropped ? `${node.log_lines_dropped} lines dropped` : "whole"],
      ...(forming?.formation ? [["Formation", forming.formation], ["Members", forming.members.join(", ")]] : []),
      ...(forming?.missing?.length ? [["Missing", forming.missing.join(", ")]] : []),
    ];
    while (this.facts.children.length > facts.length) {
      this.facts.lastElementChild.remove();
    }
    facts.forEach(([term, description], index) => {
      const pair = this.facts.children[index] ?? this.facts.appendChild(make("div", {}, make("dt"), make("dd")));
      setText(pair.firstElementChild, term);
      setText(pair.lastElementChild, description);
    });
  }

  /** Update the ages; `now` is this page's own clock, in seconds. */
  tick(now) {
    const age = this.node.age_seconds + (now - this.received);
    setText(this.age, ago(age));
    // Nobody knows what the script of an unreachable replica does by now.
    const { reachable, hook } = this.node;
    const [text, note] = jobWords(this.node) ?? hookWords(hook, reachable ? age : 0);
    setText(this.hook, reachable || hook.state === "none" ? text : `last known: ${text}`);
    setText(this.hookNote, note);
  }
}

/** Describe the versions of the protocol that a replica speaks, and that of its cluster. */
function protocol(node) {
  const { lowest_version: lowest, highest_version: highest, cluster_version: cluster } = node;
  const speaks = lowest === highest ? `version ${highest}` : `versions ${lowest} to ${highest}`;
  return cluster ? `${speaks}; the cluster speaks ${cluster}` : speaks;
}

/** Describe leader work that does not run although its node leads, in two short lines; null where it runs. */
function jobWords({ job, reachable }) {
  return reachable && job?.text && job.state !== "runs" ? ["leader work", job.text] : null;
}

/** Describe a hook in two short lines; `age` is that of the status. */
function hookWords(hook, age) {
  if (hook.state === "none" && !hook.script) {
    return ["no script", ""];
  }
  const since = Number.isFinite(hook.since_seconds) ? duration(hook.since_seconds + age) : "";
  const ended = hook.exit_status === null ? "" : exit(hook.exit_status);
  const text = hook.script ? `${hook.script} script ${hook.state}` : hook.state;
  switch (hook.state) {
    case "running":
      return [text, `for ${since}${hook.pid === null ? "" : `, process ${hook.pid}`}`];
    case "waiting":
      return [text, `for earlier work to end, ${since}`];
    case "exited":
    case "failed":
      return [text, [ended, since && `${since} ago`].filter(Boolean).join(", ")];
    default:
      return [text, ended && `last ${ended}`];
  }
}

/** Show the replicas of all clusters' documents, which came at `received` on this page's own clock, in seconds. */
export function showReplicas(clusters, received) {
  const found = clusters.flatMap((cluster) => {
    const members = membersOf(cluster);
    return cluster.nodes.map((node) => ({ node, cluster, gone: Number(isGone(node, members, cluster)) }));
  });
  const known = new Set(found.map(({ node }) => node.id));
  for (const id of rows.keys()) {
    if (!known.has(id)) {
      rows.delete(id);
    }
  }
  found.sort((a, b) =>
    clusters.indexOf(a.cluster) - clusters.indexOf(b.cluster) || a.gone - b.gone
    || nameOf(a.node).localeCompare(nameOf(b.node), undefined, { numeric: true }) || a.node.id.localeCompare(b.node.id));
  const bodies = found.map(({ node, cluster }) => {
    const replica = rows.get(node.id) ?? new Replica(node.id);
    rows.set(node.id, replica);
    replica.show(node, cluster, received, clusters.length > 1);
    return replica.body;
  });
  arrange(table, bodies, 1);
  const unanswered = clusters[0].silent;
  setText(silent, unanswered.length ? `Found, but no replica has answered there: ${unanswered.join(", ")}` : "");
  table.hidden = bodies.length === 0;
  empty.hidden = bodies.length > 0;
}

export function tickReplicas(now) {
  for (const replica of rows.values()) {
    replica.tick(now);
  }
}
