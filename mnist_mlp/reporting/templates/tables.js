"use strict";
/* Tables with sorting, filtering, column selection and copying; filters hide runs in all views. */
(() => {
  const {make} = Report;
  const COMPARISON = /^(.+?)\s*(<=|>=|!=|=|<|>)\s*(.*)$/;
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

  const compares = {"<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b, "=": (a, b) => a === b, "!=": (a, b) => a !== b};
  function satisfies(content, operator, operand) {
    if (typeof content === "number" && isNumber(operand)) return compares[operator](content, Number(operand));
    return /^!?=$/.test(operator) && compares[operator](String(content ?? "-").toLowerCase(), operand.toLowerCase());
  }
  const isNumber = text => text !== "" && Number.isFinite(Number(text));

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
    constructor(table, index) {
      this.table = table;
      this.key = name => `${name}${index ? index + 1 : ""}`; // filter, filter2, ...
      this.headers = [...table.tHead.rows[0].cells];
      this.rows = [...table.tBodies[0].rows];
      this.names = this.headers.map(header => header.textContent.trim());
      this.hidden = new Set(this.headers.flatMap((header, column) => header.hasAttribute("data-hidden") ? [column] : []));
      this.headers.forEach((header, column) => {
        header.replaceChildren(make("button", {type: "button", onclick: () => this.sort(column)}, this.names[column]));
      });
      this.count = make("span", {role: "status"});
      this.problem = make("span", {role: "alert", class: "problem"});
      this.search = make("input", {type: "search", placeholder: "words, lr>0.01, …", oninput: event => this.setFilter(event.target.value)});
      table.closest(".box").before(this.tools());
      this.showColumns();
    }

    tools() {
      const boxes = this.names.map((name, column) => make("label", {}, make("input", {
        type: "checkbox", ...(this.hidden.has(column) ? {} : {checked: true}), disabled: column === 0,
        onchange: event => { this.hidden[event.target.checked ? "delete" : "add"](column); this.showColumns(); },
      }), ` ${name}`));
      const copies = Object.keys(COPY).map(kind => make("button", {type: "button", title: `Copy the visible cells as ${kind}`,
        onclick: event => copy(COPY[kind](this.lines()), event.target)}, kind));
      return make("div", {class: "tools"}, make("label", {}, "filter ", this.search), make("details", {}, make("summary", {}, "columns"),
        make("div", {class: "menu"}, ...boxes)), make("span", {}, "copy as"), ...copies, this.count, this.problem);
    }

    sort(column, direction = null) {
      const header = this.headers[column], opposite = {ascending: "descending", descending: "ascending"};
      direction ??= opposite[header.getAttribute("aria-sort")] ?? (header.classList.contains("number") ? "descending" : "ascending");
      this.headers.forEach(cell => cell.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", direction);
      const keyed = this.rows.map(row => [value(row.cells[column]), row]);
      this.rows = keyed.sort((a, b) => compare(a[0], b[0], direction === "ascending" ? 1 : -1)).map(pair => pair[1]);
      this.table.tBodies[0].append(...this.rows);
      State.set(this.key("sort"), `${this.names[column]} ${direction}`);
    }

    /* A word, or a condition on a column named by its beginning, as {test} of a row or as {problem}. */
    parse(term) {
      const [, name, operator, operand] = COMPARISON.exec(term) ?? [], wanted = (name ?? term).toLowerCase();
      if (!operator) return {test: row => row.textContent.toLowerCase().includes(wanted)};
      const known = this.names.map(column => column.toLowerCase()), starts = known.findIndex(column => column.startsWith(wanted));
      const column = known.includes(wanted) ? known.indexOf(wanted) : starts;
      if (column < 0) return {problem: `no column '${name}': columns are ${this.names.join(", ")}`};
      const isNumeric = /[<>]/.test(operator) || this.rows.every(row => typeof value(row.cells[column]) === "number");
      if (isNumeric && !isNumber(operand)) return {problem: `${term}: ${operand ? `'${operand}' is not a number` : "a number is missing"}`};
      return {test: row => satisfies(value(row.cells[column]), operator, operand)};
    }

    setFilter(text) {
      const terms = text.split(",").map(term => term.trim()).filter(Boolean).map(term => this.parse(term)), kept = new Set(), hidden = [];
      this.search.value = text;
      this.problem.textContent = terms.map(term => term.problem).filter(Boolean).join("; ");
      for (const row of this.rows) {
        row.isFiltered = !terms.every(({test}) => !test || test(row));
        row.classList.toggle("off", row.isFiltered);
        for (const run of row.dataset.runs ? Report.runsOf(row) : []) if (row.isFiltered) hidden.push(run); else kept.add(run);
      }
      State.set(this.key("filter"), text);
      Report.exclude(this, hidden.filter(run => !kept.has(run)));
      this.showCount();
    }

    showCount() {
      const shown = this.rows.filter(row => !row.classList.contains("off")).length;
      this.count.textContent = shown < this.rows.length ? `${shown} of ${this.rows.length} rows` : "";
    }

    showColumns() {
      for (const row of [this.table.tHead.rows[0], ...this.rows])
        [...row.cells].forEach((cell, column) => cell.classList.toggle("off", this.hidden.has(column)));
    }

    restore() {
      const [, column, direction] = /^(.+) (ascending|descending)$/.exec(State.get(this.key("sort"))) ?? [];
      if (this.names.includes(column)) this.sort(this.names.indexOf(column), direction);
      this.setFilter(State.get(this.key("filter")));
    }

    lines() {
      const visible = (_, column) => !this.hidden.has(column);
      const rows = this.rows.filter(row => !row.classList.contains("off"));
      return [this.names.filter(visible), ...rows.map(row => [...row.cells].filter(visible).map(text))];
    }
  }

  const tables = [];
  for (const table of document.querySelectorAll("table")) {
    for (const code of table.querySelectorAll("td.code code"))
      code.before(make("button", {type: "button", title: "Copy this command", onclick: event => copy(code.textContent, event.target)}, "copy"));
    for (const row of table.querySelectorAll("tr[data-runs]")) {
      const cell = row.cells[0];
      cell.title ||= cell.textContent.trim();
      cell.replaceChildren(make("button", {type: "button", class: "pick", "aria-pressed": "false"}, ...cell.childNodes));
    }
    if (table.hasAttribute("data-tools")) tables.push(new DataTable(table, tables.length));
  }
  const restore = () => tables.forEach(table => table.restore());
  document.addEventListener("show-all", () => tables.forEach(table => table.setFilter("")));
  document.addEventListener("show-runs", () => tables.forEach(table => table.showCount()));
  document.addEventListener("restore-state", restore);
  restore();
})();
