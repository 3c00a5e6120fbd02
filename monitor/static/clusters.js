// Each cluster by itself. There should be one; where nodes of several answer, their terms and leaders have nothing in common.

/** The documents of the clusters, each with its own facts, nodes and elections; nodes without a cluster go with the first. */
export function clustersOf(whole) {
  const others = new Set(whole.clusters.slice(1).map((facts) => facts.cluster_id));
  if (others.size === 0) {
    return [whole];
  }
  return whole.clusters.map((facts, index) => ({
    ...whole,
    ...facts,
    nodes: whole.nodes.filter((node) => (index ? node.cluster_id === facts.cluster_id : !others.has(node.cluster_id))),
    elections: whole.elections.filter((one) => one.cluster_id === facts.cluster_id),
  }));
}

/** What only the first of several cards of a kind has are ids, by which the page's other parts refer to it. */
export function copyOf(section) {
  const copy = section.cloneNode(true);
  for (const element of [copy, ...copy.querySelectorAll("[id], [aria-labelledby]")]) {
    element.removeAttribute("id");
    element.removeAttribute("aria-labelledby");
  }
  return copy;
}
