import { mark } from "./dom.js";

const OVERSCAN = 8;
const MOST_PRINTED = 1000;

/**
 * A long list of rows of equal height, of which only those in sight exist. 5,000 rows cost as much as 50.
 *
 * `make(item)` returns {element, update(item, index)}. The height is the custom property `--row` of `body`, which a
 * style sheet may change with the width of the page.
 */
export class Rows {
  #scroller;
  #body;
  #make;
  #keyOf;
  #items = [];
  #shown = new Map();
  #frame = 0;
  #printed = false;

  constructor({ scroller, body, make, keyOf }) {
    this.#scroller = scroller;
    this.#body = body;
    this.#make = make;
    this.#keyOf = keyOf;
    scroller.addEventListener("scroll", () => this.#draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(scroller);
    // Paper does not scroll.
    window.addEventListener("beforeprint", () => { this.#printed = true; this.#draw(); });
    window.addEventListener("afterprint", () => { this.#printed = false; this.#draw(); });
  }

  get items() {
    return this.#items;
  }

  /** The height of one row in pixels. */
  get height() {
    return parseFloat(getComputedStyle(this.#body).getPropertyValue("--row")) || 40;
  }

  set(items) {
    this.#items = items;
    this.draw();
  }

  /** Draw before the next frame, once however often it is asked. */
  draw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  /** Scroll as little as needed to bring a row into sight. */
  reveal(index) {
    const top = index * this.height;
    const visible = this.#scroller.clientHeight - this.#body.offsetTop;
    if (top < this.#scroller.scrollTop) {
      this.#scroller.scrollTop = top;
    } else if (top + this.height > this.#scroller.scrollTop + visible) {
      this.#scroller.scrollTop = top + this.height - visible;
    }
    this.#draw();
  }

  #draw() {
    const { height } = this;
    const [first, last] = this.#range(height);
    this.#body.style.height = `${this.#items.length * height}px`;
    const wanted = this.#items.slice(first, last);
    const keys = new Set(wanted.map(this.#keyOf));
    for (const [key, row] of this.#shown) {
      if (!keys.has(key)) {
        row.element.remove();
        this.#shown.delete(key);
      }
    }
    // Screen readers go by the order of elements, so the elements have the order of the list.
    let next = this.#body.firstElementChild;
    wanted.forEach((item, offset) => {
      const { element } = this.#place(item, first + offset, height);
      if (element === next) {
        next = next.nextElementSibling;
      } else {
        this.#body.insertBefore(element, next);
      }
    });
  }

  /** The rows to draw: from the first to before the last. */
  #range(height) {
    const count = this.#items.length;
    if (this.#printed) {
      return [0, Math.min(count, MOST_PRINTED)];
    }
    const first = Math.max(0, Math.floor((this.#scroller.scrollTop - this.#body.offsetTop) / height) - OVERSCAN);
    return [first, Math.min(count, first + Math.ceil(this.#scroller.clientHeight / height) + 2 * OVERSCAN)];
  }

  #place(item, index, height) {
    const key = this.#keyOf(item);
    let row = this.#shown.get(key);
    if (!row) {
      row = this.#make(item);
      this.#shown.set(key, row);
    }
    const at = `translateY(${index * height}px)`;
    if (row.element.style.transform !== at) {
      row.element.style.transform = at;
    }
    mark(row.element, "data-odd", index % 2 === 1);
    row.update(item, index);
    return row;
  }
}
