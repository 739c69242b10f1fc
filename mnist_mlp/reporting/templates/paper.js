"use strict";
/* Before the page is printed its tables are made to fit the paper; afterwards all is as it was. */
(() => {
  const {make} = Report;
  const rules = document.querySelector("style[media=print]");

  /* Smaller letters first, then without the last columns, which the reader can spare, and at last smaller as a whole. */
  function fit(box, table) {
    const tools = table.hasAttribute("data-tools"), headers = [...table.tHead.rows[0].cells], left = [];
    const wide = () => table.offsetWidth > box.clientWidth + 1;
    table.classList.toggle("tight", wide());
    for (let place = headers.length - 1; tools && place > 1 && wide(); place--) {
      if (!headers[place].offsetWidth) continue;
      left.unshift(headers[place].textContent.trim());
      for (const row of table.rows) row.cells[place].classList.add("spared");
    }
    if (wide()) table.style.zoom = box.clientWidth / table.offsetWidth;
    const filtered = tools && box.previousElementSibling.querySelector("[role=status]").textContent;
    const said = [filtered ? `Filtered: ${filtered}.` : "", left.length ? `Not on paper for want of room, but in the page and the runs' files: ${left.join(", ")}.` : ""];
    if (said.some(Boolean)) box.after(make("p", {class: "note on-paper"}, said.filter(Boolean).join(" ")));
  }
  function restore() {
    for (const note of document.querySelectorAll(".note.on-paper")) note.remove();
    for (const cell of document.querySelectorAll(".spared")) cell.classList.remove("spared");
    for (const table of document.querySelectorAll(".box > table")) {
      table.classList.remove("tight");
      table.style.zoom = "";
    }
  }
  function paper(on) {
    document.documentElement.classList.toggle("paper", on);
    rules.media = on ? "all" : "print";
    restore();
    if (on) for (const table of document.querySelectorAll(".box > table")) if (table.offsetWidth) fit(table.parentElement, table);
    document.dispatchEvent(new CustomEvent("paper", {detail: {on}}));
  }
  addEventListener("beforeprint", () => paper(true));
  addEventListener("afterprint", () => paper(false));
})();
