// The few things done to the document. Text from the network only ever becomes text nodes.

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

/** Make one of the page's icons; it says nothing that the text beside it does not say. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** Set an element's text, unless it is that already: an untouched node keeps its selection. */
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

/** Put `children` into `parent` in this order, moving only what is not in its place. */
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
