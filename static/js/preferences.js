// Choices of the viewer that outlive a reload. A browser may forbid a page to store anything; then a choice lasts as long
// as the page.

const PREFIX = "vmsvc.";
const inMemory = new Map();

/** The text that is stored under this name, or `otherwise`. */
export function readPreference(name, otherwise) {
  try {
    return localStorage.getItem(PREFIX + name) ?? inMemory.get(name) ?? otherwise;
  } catch {
    return inMemory.get(name) ?? otherwise;
  }
}

/** Store a text under a name. */
export function savePreference(name, text) {
  inMemory.set(name, text);
  try {
    localStorage.setItem(PREFIX + name, text);
  } catch { /* it is in memory */ }
}
