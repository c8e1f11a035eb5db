/**
 * Elements from data. Text becomes text nodes, always: nothing that comes from the ledger is ever read as markup.
 * Attributes are a fixed set; links lead to routes of this page only.
 */

const SVG_NAMESPACE = 'http://www.w3.org/2000/svg';

function append(parent, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    parent.append(child instanceof Node ? child : String(child));
  }
  return parent;
}

function assign(node, attributes) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? '' : String(value));
  }
  return node;
}

/** el('p', { class: 'muted' }, 'text', el('b', null, 'more')) */
export function el(tag, attributes, ...children) {
  return append(assign(document.createElement(tag), attributes), children);
}

export function svg(tag, attributes, ...children) {
  return append(assign(document.createElementNS(SVG_NAMESPACE, tag), attributes), children);
}

/** A link to a route of this page: parts are encoded, so that data cannot lead elsewhere. */
export function link(parts, content, attributes) {
  const path = parts.map((part) => encodeURIComponent(String(part))).join('/');
  return el('a', { href: `#/${path}`, 'data-key': path, ...attributes }, content);
}

/** Replaces what a container holds, and gives the focus back to the element with the same key. */
export function swap(container, ...children) {
  const focused = container.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  container.replaceChildren();
  append(container, children);
  if (focused !== undefined) {
    const same = [...container.querySelectorAll('[data-key]')].find((node) => node.dataset.key === focused);
    same?.focus({ preventScroll: true });
  }
}
