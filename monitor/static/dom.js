// The changes to the document. Text from the network only ever becomes text nodes.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: `make("td", {class: "name"}, child, "text")`. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Make one of the page's icons, which repeats the text beside it. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** Set an element's text if it differs, because an untouched node keeps its selection. */
export function setText(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

export function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) {
    element.setAttribute(name, value);
  }
}

/** Put `children` into `parent` in this order, and move only those that are not in their places. */
export function arrange(parent, children, first = 0) {
  children.forEach((child, index) => {
    const there = parent.children[first + index];
    if (there !== child) {
      parent.insertBefore(child, there ?? null);
    }
  });
  while (parent.children.length > first + children.length) {
    parent.lastElementChild.remove();
  }
}
