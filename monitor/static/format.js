// The words for facts. Pure functions.

const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

/** Format a duration in at most two units: "4 s", "2 min 5 s", "3 d 4 h"; "–" when it is not known. */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) {
    return "–";
  }
  const whole = Math.max(0, Math.floor(seconds));
  const first = UNITS.findIndex(([, size]) => whole >= size);
  if (first < 0) {
    return "0 s";
  }
  const [unit, size] = UNITS[first];
  const next = UNITS[first + 1];
  const rest = next ? Math.floor((whole % size) / next[1]) : 0;
  return rest ? `${Math.floor(whole / size)} ${unit} ${rest} ${next[0]}` : `${Math.floor(whole / size)} ${unit}`;
}

/** Format a duration as a point in the past. */
export function ago(seconds) {
  return Number.isFinite(seconds) && seconds < 1.5 ? "just now" : `${duration(seconds)} ago`;
}

const grouped = new Intl.NumberFormat("en-GB");

/** Format a whole number in groups of three digits. */
export function whole(number) {
  return grouped.format(number);
}

/** Format bytes in MiB, without the unit. */
export function mebibytes(bytes) {
  return (bytes / 2 ** 20).toLocaleString("en-GB", { maximumFractionDigits: 1 });
}

export function count(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}

/** Join words: "a", "a and b", "a, b and c". */
export function listing(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

/** Describe a process's exit status. */
export function exit(status) {
  return status < 0 ? `ended by signal ${-status}` : `exit status ${status}`;
}

/** Return the name of a node, else its id. */
export function nameOf(node) {
  return node.name || node.id;
}
