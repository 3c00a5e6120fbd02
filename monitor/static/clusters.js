// Each cluster by itself. There should be one; where nodes of several answer, each has a term and a leader of its own.

/** List a document for each cluster, with its own facts, nodes and elections; nodes without a cluster go to the first. */
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

/** Copy a card without its ids: only the first card of a kind has them, for the other parts of the page. */
export function copyOf(section) {
  const copy = section.cloneNode(true);
  for (const element of [copy, ...copy.querySelectorAll("[id], [aria-labelledby]")]) {
    element.removeAttribute("id");
    element.removeAttribute("aria-labelledby");
  }
  return copy;
}
