// Elements made of text and attributes only. Nothing here, or anywhere in this page, parses HTML from a string:
// a VM may be named `<img onerror=…>` and stays a name.

/** A new element. Attributes that are null, undefined or false are left out; `true` writes an empty one. */
export function el(tag, attributes = {}, ...children) {
  return dress(document.createElement(tag), attributes, children);
}

/** The same for a part of a drawing: an element of the kind that `svg` is. */
export function draw(svg, tag, attributes = {}) {
  return dress(document.createElementNS(svg.namespaceURI, tag), attributes, []);
}

function dress(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children);
  return element;
}

/** Write text only when it differs, so that an idle page causes no layout. */
export function write(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

/** Set or remove an attribute, only when it differs. */
export function mark(element, name, value) {
  if (value === null || value === undefined || value === false) {
    element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, value);
  }
}

/** The element with this id; the page cannot work without it. */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) {
    throw new Error(`the page lacks #${id}`);
  }
  return element;
}

/** Make the buttons marked `data-close` in a dialog close it, and a click on its backdrop as well. */
export function closable(dialog) {
  for (const button of dialog.querySelectorAll("[data-close]")) {
    button.addEventListener("click", () => dialog.close());
  }
  dialog.addEventListener("mousedown", event => {
    const box = dialog.getBoundingClientRect();
    const inside = event.clientX >= box.left && event.clientX <= box.right
      && event.clientY >= box.top && event.clientY <= box.bottom;
    // The second press of a double click comes from before the dialog was there.
    if (event.target === dialog && !inside && event.detail < 2) {
      dialog.close();
    }
  });
}
