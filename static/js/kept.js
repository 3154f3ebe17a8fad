// Small choices that outlive a reload. A browser may forbid a page to keep anything; then they last as long as the page.

const PREFIX = "vmsvc.";
const here = new Map();

/** What was kept under this name, or `otherwise`. */
export function recall(name, otherwise) {
  try {
    return localStorage.getItem(PREFIX + name) ?? here.get(name) ?? otherwise;
  } catch {
    return here.get(name) ?? otherwise;
  }
}

/** Keep a text under a name. */
export function keep(name, text) {
  here.set(name, text);
  try {
    localStorage.setItem(PREFIX + name, text);
  } catch { /* it is kept here */ }
}
