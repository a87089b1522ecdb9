// Elements without markup in strings: whatever comes from outside only ever becomes text.

const SVG = "http://www.w3.org/2000/svg";

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** An HTML element with attributes and children; strings become text. */
export const html = (name, attributes = {}, ...children) =>
  filled(document.createElement(name), attributes, children);

/** An SVG element with attributes and children; strings become text. */
export const svg = (name, attributes = {}, ...children) =>
  filled(document.createElementNS(SVG, name), attributes, children);

/** Sets a text only where it is another, so that selections and readers are left alone. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Shows or hides. */
export function show(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}

/** Sets a data attribute only where it is another. */
export function mark(element, name, value) {
  if (element.dataset[name] !== value) element.dataset[name] = value;
}
