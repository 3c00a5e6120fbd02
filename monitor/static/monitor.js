// The page, which shows each cluster document as it comes, and lets the ages grow in between.

import { duration } from "./format.js";
import { arrange, make, setAttribute, setText } from "./dom.js";
import { clustersOf, copyOf } from "./clusters.js";
import { listen } from "./connection.js";
import { LeaderCard, announce } from "./leader.js";
import { showAlerts, showAutopilot, showElections, tickLists } from "./lists.js";
import { MembersCard } from "./members.js";
import { showReplicas, tickReplicas } from "./replicas.js";

const TICK_MILLISECONDS = 250;

const main = document.getElementById("main");
const connection = document.getElementById("connection");
const connectionText = document.getElementById("connection-text");
const lost = document.getElementById("lost");
const lostDetail = document.getElementById("lost-detail");
const clusterLabel = document.getElementById("cluster-label");
const clusterId = document.getElementById("cluster-id");

const otherClusters = document.getElementById("other-clusters");
const leaderSection = document.getElementById("leader");
const membersSection = document.getElementById("members");
// A card of the leader and one of the members for each cluster; the template has those of the first.
const patterns = [leaderSection, membersSection].map(copyOf);
const cards = [{ leader: new LeaderCard(leaderSection), members: new MembersCard(membersSection) }];

let received; // when the last document came, on this page's own clock, in seconds
let monitorTime; // the monitor's clock in that document, in milliseconds

const clock = () => performance.now() / 1000;

function show(cluster) {
  received = clock();
  monitorTime = Date.parse(cluster.monitor.time);
  setText(clusterLabel, cluster.cluster_id ? "cluster" : "no cluster yet");
  setText(clusterId, cluster.cluster_id ?? "");
  const clusters = clustersOf(cluster);
  showAlerts(cluster);
  showCards(clusters);
  showReplicas(clusters, received);
  showAutopilot(cluster);
  showElections(cluster);
  setConnection("live", "live");
  lost.hidden = true;
  main.classList.remove("stale");
  setAttribute(main, "aria-busy", "false");
  tick();
}

function showCards(clusters) {
  while (cards.length < clusters.length) {
    const [leader, members] = patterns.map((pattern) => pattern.cloneNode(true));
    const body = make("div", { class: "other-cluster" }, leader, members);
    cards.push({ leader: new LeaderCard(leader), members: new MembersCard(members), body });
  }
  cards.length = clusters.length;
  arrange(otherClusters, cards.slice(1).map((card) => card.body));
  clusters.forEach((cluster, index) => {
    const now = cards[index].leader.show(cluster, clusters.length > 1);
    cards[index].members.show(cluster);
    if (index === 0) {
      announce(now, cluster.monitor.service);
    }
  });
}

function showLost() {
  setConnection("lost", "connection lost");
  lost.hidden = false;
  main.classList.toggle("stale", received !== undefined);
  tick();
}

function setConnection(state, text) {
  setAttribute(connection, "data-state", state);
  setText(connectionText, text);
}

function tick() {
  const now = clock();
  if (!lost.hidden) {
    setText(lostDetail, received === undefined
      ? "Trying to connect."
      : `Trying again. What is shown here is ${duration(now - received)} old.`);
  }
  if (received !== undefined) {
    const monitorNow = monitorTime + (now - received) * 1000;
    cards.forEach((card) => card.leader.tick(monitorNow));
    tickReplicas(now);
    tickLists(monitorNow);
  }
}

listen(document.body.dataset.events, show, showLost);
setInterval(tick, TICK_MILLISECONDS);
