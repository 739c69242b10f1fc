"use strict";
/* Fits tables to the paper before printing and restores them afterwards. */
(() => {
  const {make} = Report;
  const rules = document.querySelector("style[media=print]");

  /* Reduces the font size first, then hides columns from the right, then scales the whole table. */
  function fit(box, table) {
    const tools = table.hasAttribute("data-tools"), headers = [...table.tHead.rows[0].cells], omitted = [];
    const overflows = () => table.offsetWidth > box.clientWidth + 1;
    table.classList.toggle("tight", overflows());
    for (let column = headers.length - 1; tools && column > 1 && overflows(); column--) {
      if (!headers[column].offsetWidth) continue;
      omitted.unshift(headers[column].textContent.trim());
      for (const row of table.rows) row.cells[column].classList.add("omitted");
    }
    if (overflows()) table.style.zoom = box.clientWidth / table.offsetWidth;
    const filtered = tools && box.previousElementSibling.querySelector("[role=status]").textContent;
    const notes = [filtered ? `Filtered: ${filtered}.` : "", omitted.length ? `Columns omitted in print: ${omitted.join(", ")}.` : ""].filter(Boolean);
    if (notes.length) box.after(make("p", {class: "note on-paper"}, notes.join(" ")));
  }
  function restore() {
    for (const note of document.querySelectorAll(".note.on-paper")) note.remove();
    for (const cell of document.querySelectorAll(".omitted")) cell.classList.remove("omitted");
    for (const table of document.querySelectorAll(".box > table")) {
      table.classList.remove("tight");
      table.style.zoom = "";
    }
  }
  function setPaper(on) {
    document.documentElement.classList.toggle("paper", on);
    rules.media = on ? "all" : "print";
    restore();
    if (on) for (const table of document.querySelectorAll(".box > table")) if (table.offsetWidth) fit(table.parentElement, table);
    document.dispatchEvent(new CustomEvent("paper", {detail: {on}}));
  }
  addEventListener("beforeprint", () => setPaper(true));
  addEventListener("afterprint", () => setPaper(false));
})();
