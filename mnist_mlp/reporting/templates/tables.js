"use strict";
/* Tables with sorting, filtering, column selection and copying; rows are highlighted with the selected runs. */
(() => {
  const {make} = Report;
  const COMPARISON = /^(.+?)\s*(<=|>=|!=|=|<|>)\s*(.+)$/;
  const text = cell => (cell.querySelector("code") ?? cell.querySelector(".pick") ?? cell).textContent.trim().replaceAll("\u00a0", " ");

  function value(cell) {
    if (cell.dataset.order !== undefined) return Number(cell.dataset.order);
    const plain = text(cell).replace(/^★\s*/, "").replace(/(\d),(?=\d{3}\b)/g, "$1");
    if (plain === "-" || plain === "") return null;
    const match = /^[+-]?\d+(\.\d+)?(e[+-]?\d+)?/i.exec(plain);
    const number = cell.classList.contains("number") && match ? Number(match[0]) : Number(plain);
    return Number.isNaN(number) ? plain : number;
  }

  function compare(a, b, sign) {
    if (a === null || b === null) return (a === null) - (b === null); // missing values come last
    if (typeof a === "number" && typeof b === "number") return sign * (a - b);
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return sign * a.localeCompare(b);
  }

  function satisfies(cell, operator, operand) {
    const content = value(cell), number = Number(operand);
    if (typeof content === "number" && operand !== "" && !Number.isNaN(number))
      return {"<": content < number, ">": content > number, "<=": content <= number, ">=": content >= number, "=": content === number, "!=": content !== number}[operator];
    const isEqual = text(cell).toLowerCase() === operand.toLowerCase();
    return operator === "=" ? isEqual : operator === "!=" ? !isEqual : false;
  }

  const TEX = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "±": "$\\pm$", "★": "$\\star$", "→": "$\\to$"};
  const latex = cell => cell.replace(/[\\~^±★→&%$#_{}]/g, character => TEX[character] ?? `\\${character}`);
  const COPY = {
    CSV: lines => lines.map(line => line.map(cell => /[",\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell).join(",")).join("\n") + "\n",
    Markdown: ([header, ...rows]) => [header, header.map(() => "---"), ...rows].map(line => `| ${line.map(cell => cell.replaceAll("|", "\\|")).join(" | ")} |`).join("\n") + "\n",
    LaTeX: ([header, ...rows]) => [`\\begin{tabular}{${"l".repeat(header.length)}}`, "\\hline", ...[header, ...rows].map((line, index) =>
      line.map(latex).join(" & ") + " \\\\" + (index ? "" : " \\hline")), "\\hline", "\\end{tabular}"].join("\n") + "\n",
  };

  async function copy(content, button) {
    let isCopied = true;
    try {
      await navigator.clipboard.writeText(content);
    } catch { // some browsers have no clipboard API for local files
      const area = make("textarea", {style: "position: fixed; opacity: 0", "aria-hidden": "true"});
      area.value = content;
      document.body.append(area);
      area.select();
      isCopied = document.execCommand("copy");
      area.remove();
      button.focus();
    }
    const label = button.dataset.label ?? (button.dataset.label = button.textContent);
    button.textContent = isCopied ? "copied" : "copy failed";
    setTimeout(() => { button.textContent = label; }, 1500);
    document.dispatchEvent(new CustomEvent("copied", {detail: {content}}));
  }

  class DataTable {
    constructor(table) {
      this.table = table;
      this.headers = [...table.tHead.rows[0].cells];
      this.rows = [...table.tBodies[0].rows];
      this.names = this.headers.map(header => header.textContent.trim());
      this.filter = "";
      this.hidden = new Set(this.headers.flatMap((header, column) => header.hasAttribute("data-hidden") ? [column] : []));
      if (!table.hasAttribute("data-tools")) return;
      this.headers.forEach((header, column) => {
        header.replaceChildren(make("button", {type: "button", onclick: () => this.sort(column)}, this.names[column]));
      });
      this.count = make("span", {role: "status"});
      table.closest(".box").before(this.tools());
      this.show();
    }

    tools() {
      const search = make("input", {type: "search", placeholder: "words, lr>0.01, …", oninput: event => { this.filter = event.target.value; this.show(); }});
      const boxes = this.names.map((name, column) => make("label", {}, make("input", {
        type: "checkbox", ...(this.hidden.has(column) ? {} : {checked: true}), disabled: column === 0,
        onchange: event => { this.hidden[event.target.checked ? "delete" : "add"](column); this.show(); },
      }), ` ${name}`));
      const copies = Object.keys(COPY).map(kind => make("button", {type: "button", title: `Copy the visible cells as ${kind}`,
        onclick: event => copy(COPY[kind](this.lines()), event.target)}, kind));
      return make("div", {class: "tools"}, make("label", {}, "filter ", search), make("details", {}, make("summary", {}, "columns"),
        make("div", {class: "menu"}, ...boxes)), make("span", {}, "copy as"), ...copies, this.count);
    }

    sort(column) {
      const header = this.headers[column];
      const sign = header.getAttribute("aria-sort") === "descending" ? 1 : header.getAttribute("aria-sort") === "ascending" ? -1
        : header.classList.contains("number") ? -1 : 1; // numbers start descending, names ascending
      this.headers.forEach(cell => cell.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const keyed = this.rows.map(row => [value(row.cells[column]), row]);
      this.rows = keyed.sort((a, b) => compare(a[0], b[0], sign)).map(pair => pair[1]);
      this.table.tBodies[0].append(...this.rows);
    }

    matches(row, terms) {
      return terms.every(term => {
        const comparison = COMPARISON.exec(term);
        const column = comparison ? this.names.findIndex(name => name.toLowerCase().startsWith(comparison[1].trim().toLowerCase())) : -1;
        if (column >= 0) return satisfies(row.cells[column], comparison[2], comparison[3].trim());
        return row.textContent.toLowerCase().includes(term.toLowerCase());
      });
    }

    show() {
      const terms = this.filter.split(",").map(term => term.trim()).filter(Boolean);
      let shown = 0;
      for (const row of this.rows) {
        const isMatch = this.matches(row, terms);
        row.classList.toggle("off", !isMatch);
        shown += isMatch;
      }
      for (const row of [this.table.tHead.rows[0], ...this.rows])
        [...row.cells].forEach((cell, column) => cell.classList.toggle("off", this.hidden.has(column)));
      this.count.textContent = terms.length ? `${shown} of ${this.rows.length} rows` : "";
    }

    lines() {
      const visible = (_, column) => !this.hidden.has(column);
      const rows = this.rows.filter(row => !row.classList.contains("off"));
      return [this.names.filter(visible), ...rows.map(row => [...row.cells].filter(visible).map(text))];
    }
  }

  const runsOf = row => row.dataset.runs.split(" ").map(Number);
  for (const table of document.querySelectorAll("table")) {
    for (const code of table.querySelectorAll("td.code code"))
      code.before(make("button", {type: "button", title: "Copy this command", onclick: event => copy(code.textContent, event.target)}, "copy"));
    for (const row of table.querySelectorAll("tr[data-runs]")) {
      const cell = row.cells[0];
      cell.title ||= cell.textContent.trim();
      cell.replaceChildren(make("button", {type: "button", class: "pick", "aria-pressed": "false"}, ...cell.childNodes));
    }
    table.addEventListener("click", event => {
      const row = event.target.closest("tr[data-runs]");
      const control = event.target.closest("a, button:not(.pick), input");
      if (row && !control && !String(getSelection())) Report.toggle(runsOf(row));
    });
    new DataTable(table);
  }
  document.addEventListener("select-runs", event => {
    const selected = new Set(event.detail.runs);
    for (const row of document.querySelectorAll("tr[data-runs]")) {
      const isSelected = runsOf(row).some(run => selected.has(run));
      row.classList.toggle("selected", isSelected);
      row.querySelector(".pick").setAttribute("aria-pressed", String(isSelected));
    }
  });
})();
