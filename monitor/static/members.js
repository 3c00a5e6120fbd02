// Who votes, who learns, and how many may fail.

import { count, listing, nameOf } from "./format.js";
import { arrange, icon, make, setAttribute, setText } from "./dom.js";

const section = document.getElementById("members");
const survives = document.getElementById("survives");
const survivesNow = document.getElementById("survives-now");
const voterList = document.getElementById("voters");
const learnerList = document.getElementById("learners");
const note = document.getElementById("members-note");
const seats = new Map();

const CHANGING = new Map([["new voter", "becomes a voter"], ["old voter", "votes no more"]]);

/** The members as the leader takes them, by id; empty while nobody leads. */
export function membersOf(cluster) {
  const leader = cluster.nodes.find((node) => node.id === cluster.leader);
  return new Map((leader?.members ?? []).map((member) => [member.id, member]));
}

/** What a reachable node is about to become, or "". */
export function changing(member) {
  return CHANGING.get(member?.kind) ?? "";
}

function seat(member, cluster) {
  const node = cluster.nodes.find((other) => other.id === member.id);
  const here = node?.reachable ?? false;
  const element = seats.get(member.id) ?? make("li", {}, icon("unknown"), make("span"));
  seats.set(member.id, element);
  const learns = member.kind === "learner";
  const style = !here ? "unreachable" : member.id === cluster.leader ? "leader" : learns ? "learner" : "follower";
  const why = !node ? "has not answered the monitor" : here ? changing(member) || (learns ? "learner" : "voter") : "unreachable";
  setAttribute(element, "class", "seat");
  setAttribute(element, "data-style", style);
  setAttribute(element, "title", `${member.id}: ${why}`);
  setAttribute(element.firstElementChild.firstChild, "href", `#icon-${style}`);
  setText(element.lastElementChild, (node && nameOf(node)) || member.name || member.id);
  return element;
}

/** How many voters may fail beside those that have failed already. */
function left(voters, here) {
  const quorum = Math.floor(voters.length / 2) + 1;
  const spare = here.length - quorum;
  const silent = voters.length - here.length;
  if (silent === 0) {
    return "";
  }
  const failed = `${count(silent, "voter")} ${silent === 1 ? "is" : "are"} unreachable`;
  return spare < 0 ? `${failed}: there is no quorum.` : `${failed}: ${spare === 0 ? "none" : `${spare} more`} may fail.`;
}

function nameOfMember(member, cluster) {
  const node = cluster.nodes.find((other) => other.id === member.id);
  return node ? nameOf(node) : member.name || member.id;
}

function learnerNote(learners) {
  return learners.length ? `${count(learners.length, "learner")} ${learners.length === 1 ? "gets" : "get"} the log, and can take over.` : "";
}

function unheardNote(members, cluster) {
  const unheard = members.filter((member) => !cluster.nodes.some((node) => node.id === member.id));
  const names = listing(unheard.map((member) => nameOfMember(member, cluster)));
  return unheard.length ? `${names} ${unheard.length === 1 ? "is a member, but has" : "are members, but have"} not answered.` : "";
}

/** Show the members of a cluster document; nothing while nobody leads. */
export function showMembers(cluster) {
  const members = [...membersOf(cluster).values()].sort((a, b) =>
    nameOfMember(a, cluster).localeCompare(nameOfMember(b, cluster), undefined, { numeric: true }) || a.id.localeCompare(b.id));
  const learners = members.filter((member) => member.kind === "learner");
  // While the voters change, those that are about to vote no more are shown, and not counted.
  const seated = members.filter((member) => member.kind !== "learner");
  const voters = seated.filter((member) => member.kind !== "old voter");
  const here = voters.filter((member) => cluster.nodes.some((node) => node.id === member.id && node.reachable));
  for (const id of seats.keys()) {
    if (!members.some((member) => member.id === id)) {
      seats.delete(id);
    }
  }
  arrange(voterList, seated.map((member) => seat(member, cluster)));
  arrange(learnerList, learners.map((member) => seat(member, cluster)));
  learnerList.hidden = learners.length === 0;
  setText(survives, cluster.survives ?? "");
  setText(survivesNow, left(voters, here));
  setText(note, [learnerNote(learners), unheardNote(members, cluster)].filter(Boolean).join(" "));
  section.hidden = members.length === 0;
}
