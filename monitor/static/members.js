// The card of the members: the voters, the learners, and how many may fail.

import { count, listing, nameOf } from "./format.js";
import { arrange, icon, make, setAttribute, setText } from "./dom.js";

const CHANGING = new Map([["new voter", "becomes a voter"], ["old voter", "votes no more"]]);

/** Return the leader's members, by id; empty without a leader. */
export function membersOf(cluster) {
  const leader = cluster.nodes.find((node) => node.id === cluster.leader);
  return new Map((leader?.members ?? []).map((member) => [member.id, member]));
}

/** Describe what a member is about to become; "" for nothing. */
export function changing(member) {
  return CHANGING.get(member?.kind) ?? "";
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

/** The card of one cluster. */
export class MembersCard {
  constructor(section) {
    const part = (name) => section.querySelector(`[data-part="${name}"]`);
    this.section = section;
    this.survives = part("survives");
    this.voters = part("voters");
    this.learners = part("learners");
    this.note = part("note");
    this.seats = new Map();
  }

  /** Show the members of a cluster document; nothing without a leader. */
  show(cluster) {
    const members = [...membersOf(cluster).values()].sort((a, b) =>
      nameOfMember(a, cluster).localeCompare(nameOfMember(b, cluster), undefined, { numeric: true }) || a.id.localeCompare(b.id));
    const learners = members.filter((member) => member.kind === "learner");
    const voters = members.filter((member) => member.kind !== "learner");
    for (const id of this.seats.keys()) {
      if (!members.some((member) => member.id === id)) {
        this.seats.delete(id);
      }
    }
    arrange(this.voters, voters.map((member) => this.seat(member, cluster)));
    arrange(this.learners, learners.map((member) => this.seat(member, cluster)));
    this.learners.hidden = learners.length === 0;
    setAttribute(this.section, "aria-label", `Members of cluster ${cluster.cluster_id}`);
    setText(this.survives, cluster.survives_text ?? "");
    this.survives.classList.toggle("bad", cluster.survives === 0 && voters.length > 2);
    setText(this.note, [learnerNote(learners), unheardNote(members, cluster)].filter(Boolean).join(" "));
    this.section.hidden = members.length === 0;
  }

  seat(member, cluster) {
    const node = cluster.nodes.find((other) => other.id === member.id);
    const here = node?.reachable ?? false;
    const element = this.seats.get(member.id) ?? make("li", {}, icon("unknown"), make("span"));
    this.seats.set(member.id, element);
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
}
