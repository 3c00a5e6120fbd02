// The card that answers the first question: who leads?

import { count, duration, listing, nameOf } from "./format.js";
import { setAttribute, setText } from "./dom.js";
import { membersOf } from "./members.js";

const announcement = document.getElementById("announcement");

let announced = "";

/** Describe the leadership: {state, icon, headline, detail, since}; `since` is its beginning on the monitor's clock. */
function situation(cluster) {
  const { nodes } = cluster;
  const here = nodes.filter((node) => node.reachable);
  const leader = nodes.find((node) => node.id === cluster.leader);
  if (leader) {
    const won = cluster.elections.find((one) => one.term === leader.term && one.leader === leader.id);
    return {
      state: "leader", icon: "leader", headline: `${nameOf(leader)} is the leader`,
      detail: `in term ${leader.term}`, since: won ? Date.parse(won.at) : undefined,
    };
  }
  if (nodes.length === 0) {
    return {
      state: "waiting", icon: "unknown", headline: "No replica has answered yet",
      detail: `Asking for replicas of “${cluster.monitor.service}”.`,
    };
  }
  if (here.length > 0 && here.every((node) => node.role === "forming")) {
    return {
      state: "forming", icon: "forming", headline: "The cluster is forming",
      detail: formingDetail(here),
    };
  }
  return { state: "none", icon: "alert", headline: "There is no leader", detail: noLeaderDetail(nodes, here) };
}

function formingDetail(nodes) {
  const reasons = new Set(nodes.map((node) => node.forming?.waiting_for).filter(Boolean));
  return reasons.size === 1 ? `Waiting for ${[...reasons][0]}.` : "Below is what each replica waits for.";
}

function noLeaderDetail(nodes, here) {
  if (here.length === 0) {
    return nodes.length === 1 ? "The only known replica is unreachable." : `All ${nodes.length} known replicas are unreachable.`;
  }
  const gone = nodes.filter((node) => !node.reachable).map(nameOf);
  const missing = gone.length ? `${listing(gone)} ${gone.length === 1 ? "is" : "are"} unreachable.` : "";
  const running = here.filter((node) => node.role.endsWith("candidate")).map(nameOf);
  if (running.length) {
    return `${missing} ${listing(running)} ${running.length === 1 ? "is" : "are"} trying to win an election.`;
  }
  return `${missing} ${count(here.length, "reachable replica")}, no election yet.`;
}

/** The card of one cluster. */
export class LeaderCard {
  constructor(section) {
    const part = (name) => section.querySelector(`[data-part="${name}"]`);
    this.section = section;
    this.picture = part("icon");
    this.headline = part("headline");
    this.detail = part("detail");
    this.reachable = part("reachable");
    this.term = part("term");
  }

  /** Show who leads a cluster; `several` says that there are others. */
  show(cluster, several) {
    const now = situation(cluster);
    const which = several ? `${now.detail.trim()}${now.state === "leader" ? ", of" : " This is"} cluster ${cluster.cluster_id}` : now.detail.trim();
    setAttribute(this.section, "data-state", now.state);
    setAttribute(this.section, "aria-label", now.headline);
    setAttribute(this.picture, "href", `#icon-${now.icon}`);
    setText(this.headline, now.headline);
    this.text = which;
    this.since = now.since;
    // The nodes that should answer: the members, as far as they are known.
    const members = membersOf(cluster);
    const here = cluster.nodes.filter((node) => node.reachable && (members.size === 0 || members.has(node.id))).length;
    setText(this.reachable, cluster.nodes.length ? `${here} of ${members.size || cluster.nodes.length}` : "none");
    setText(this.term, cluster.nodes.length ? String(cluster.term) : "–");
    return now;
  }

  /** Update the time for which the leader has led; `now` is the monitor's clock. */
  tick(now) {
    if (this.text !== undefined) {
      setText(this.detail, this.since === undefined ? this.text : `for ${duration((now - this.since) / 1000)}, ${this.text}`);
    }
  }
}

/** Announce changes of the first cluster's leadership to screen readers, and in the title of the window. */
export function announce(now, service) {
  setText(announcement, announced === now.headline ? announcement.textContent : `${now.headline}, ${now.detail}`);
  announced = now.headline;
  const brief = now.state === "leader" ? now.headline.replace(" is the leader", " leads") : now.headline;
  document.title = `${brief} · ${service}`;
}
