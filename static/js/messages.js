import { byId, el } from "./dom.js";

const MOST = 4;
const KEEP = 12_000;

/** Show a message at the edge of the page: an error (`bad`) or a success (`good`). */
export function showMessage(text, tone = "bad") {
  const close = el("button", { type: "button", class: "plain", "aria-label": "Dismiss" }, "✕");
  const box = el("div", { class: "message", "data-tone": tone, role: tone === "bad" ? "alert" : "status" },
    el("p", {}, text), close);
  const home = byId("messages");
  home.append(box);
  while (home.children.length > MOST) {
    home.firstElementChild.remove();
  }
  const timer = setTimeout(() => box.remove(), KEEP);
  close.addEventListener("click", () => { clearTimeout(timer); box.remove(); });
}
