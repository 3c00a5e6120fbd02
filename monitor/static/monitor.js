// The page: shows each cluster document as it comes, and lets the ages grow in between.

import { duration } from "./format.js";
import { setAttribute, setText } from "./dom.js";
import { listen } from "./connection.js";
import { showLeader, tickLeader } from "./leader.js";
import { showAlerts, showAutopilot, showElections, tickLists } from "./lists.js";
import { showMembers } from "./members.js";
import { showReplicas, tickReplicas } from "./replicas.js";

const TICK_MILLISECONDS = 250;

const main = document.getElementById("main");
const connection = document.getElementById("connection");
const connectionText = document.getElementById("connection-text");
const lost = document.getElementById("lost");
const lostDetail = document.getElementById("lost-detail");
const clusterLabel = document.getElementById("cluster-label");
const clusterId = document.getElementById("cluster-id");

let received; // when the last document came, on this page's own clock, in seconds
let monitorTime; // the monitor's clock in that document, in milliseconds

const clock = () => performance.now() / 1000;

function show(cluster) {
  received = clock();
  monitorTime = Date.parse(cluster.monitor.time);
  setText(clusterLabel, cluster.cluster_id ? "cluster" : "no cluster yet");
  setText(clusterId, cluster.cluster_id ?? "");
  showLeader(cluster);
  showAlerts(cluster);
  showMembers(cluster);
  showReplicas(cluster, received);
  showAutopilot(cluster);
  showElections(cluster);
  setConnection("live", "live");
  lost.hidden = true;
  main.classList.remove("stale");
  setAttribute(main, "aria-busy", "false");
  tick();
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
    tickLeader(monitorNow);
    tickReplicas(now);
    tickLists(monitorNow);
  }
}

listen(document.body.dataset.events, show, showLost);
setInterval(tick, TICK_MILLISECONDS);
