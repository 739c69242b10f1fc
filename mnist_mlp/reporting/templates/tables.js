"use strict";
/* Tables to sort, filter, narrow and copy; their rows light up with the runs behind them. */
(() => {
  const {make} = Report;
  const COMPARISON = /^(.+?)\s*(<=|>=|!=|=|<|>)\s*(.+)$/;
  const text = cell => (cell.querySelector("code") ?? cell.querySelector(".pick") ?? cell).textContent.trim().replaceAll("\u00a0", " ");

  function value(cell) {
    if (cell.dataset.order !== undefined) return Number(cell.dataset.order);
    const plain = text(cell).replace(/^★\s*/, "").replace(/(\d),(?=\d{3}\b)/g, "$1");
    if (plain === "-" || plain === "") return null;
    const found = /^[+-]?\d+(\.\d+)?(e[+-]?\d+)?/i.exec(plain);
    const number = cell.classList.contains("number") && found ? Number(found[0]) : Number(plain);
    return Number.isNaN(number) ? plain : number;
  }

  function compare(one, other, sign) {
    if (one === null || other === null) return (one === null) - (other === null); // what is missing comes last
    if (typeof one === "number" && typeof other === "number") return sign * (one - other);
    if (typeof one !== typeof other) return typeof one === "number" ? -1 : 1;
    return sign * one.localeCompare(other);
  }

  function holds(cell, operator, wanted) {
    const own = value(cell), number = Number(wanted);
    if (typeof own === "number" && wanted !== "" && !Number.isNaN(number))
      return {"<": own < number, ">": own > number, "<=": own <= number, ">=": own >= number, "=": own === number, "!=": own !== number}[operator];
    const alike = text(cell).toLowerCase() === wanted.toLowerCase();
    return operator === "=" ? alike : operator === "!=" ? !alike : false;
  }

  const TEX = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "±": "$\\pm$", "★": "$\\star$", "→": "$\\to$"};
  const latex = cell => cell.replace(/[\\~^±★→&%$#_{}]/g, letter => TEX[letter] ?? `\\${letter}`);
  const COPY = {
    CSV: lines => lines.map(line => line.map(cell => /[",\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell).join(",")).join("\n") + "\n",
    Markdown: ([header, ...rows]) => [header, header.map(() => "---"), ...rows].map(line => `| ${line.map(cell => cell.replaceAll("|", "\\|")).join(" | ")} |`).join("\n") + "\n",
    LaTeX: ([header, ...rows]) => [`\\begin{tabular}{${"l".repeat(header.length)}}`, "\\hline", ...[header, ...rows].map((line, place) =>
      line.map(latex).join(" & ") + " \\\\" + (place ? "" : " \\hline")), "\\hline", "\\end{tabular}"].join("\n") + "\n",
  };

  async function copy(content, button) {
    let done = true;
    try {
      await navigator.clipboard.writeText(content);
    } catch { // no clipboard from disk in some browsers
      const area = make("textarea", {style: "position: fixed; opacity: 0", "aria-hidden": "true"});
      area.value = content;
      document.body.append(area);
      area.select();
      done = document.execCommand("copy");
      area.remove();
      button.focus();
    }
    const before = button.dataset.label ?? (button.dataset.label = button.textContent);
    button.textContent = done ? "copied" : "not copied";
    setTimeout(() => { button.textContent = before; }, 1500);
    document.dispatchEvent(new CustomEvent("copied", {detail: {content}}));
  }

  class DataTable {
    constructor(table) {
      this.table = table;
      this.headers = [...table.tHead.rows[0].cells];
      this.rows = [...table.tBodies[0].rows];
      this.names = this.headers.map(header => header.textContent.trim());
      this.filter = "";
      this.hidden = new Set(this.headers.flatMap((header, place) => header.hasAttribute("data-hidden") ? [place] : []));
      if (!table.hasAttribute("data-tools")) return;
      this.headers.forEach((header, place) => {
        header.replaceChildren(make("button", {type: "button", onclick: () => this.sort(place)}, this.names[place]));
      });
      this.count = make("span", {role: "status"});
      table.closest(".box").before(this.tools());
      this.show();
    }

    tools() {
      const search = make("input", {type: "search", placeholder: "words, lr>0.01, …", oninput: event => { this.filter = event.target.value; this.show(); }});
      const boxes = this.names.map((name, place) => make("label", {}, make("input", {
        type: "checkbox", ...(this.hidden.has(place) ? {} : {checked: true}), disabled: place === 0,
        onchange: event => { this.hidden[event.target.checked ? "delete" : "add"](place); this.show(); },
      }), ` ${name}`));
      const copies = Object.keys(COPY).map(kind => make("button", {type: "button", title: `Copy what is shown as ${kind}`,
        onclick: event => copy(COPY[kind](this.lines()), event.target)}, kind));
      return make("div", {class: "tools"}, make("label", {}, "filter ", search), make("details", {}, make("summary", {}, "columns"),
        make("div", {class: "menu"}, ...boxes)), make("span", {}, "copy as"), ...copies, this.count);
    }

    sort(place) {
      const header = this.headers[place];
      const sign = header.getAttribute("aria-sort") === "descending" ? 1 : header.getAttribute("aria-sort") === "ascending" ? -1
        : header.classList.contains("number") ? -1 : 1; // the highest number, or the first name, comes first
      this.headers.forEach(other => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const keyed = this.rows.map(row => [value(row.cells[place]), row]);
      this.rows = keyed.sort((one, other) => compare(one[0], other[0], sign)).map(pair => pair[1]);
      this.table.tBodies[0].append(...this.rows);
    }

    passes(row, words) {
      return words.every(word => {
        const found = COMPARISON.exec(word);
        const place = found ? this.names.findIndex(name => name.toLowerCase().startsWith(found[1].trim().toLowerCase())) : -1;
        if (place >= 0) return holds(row.cells[place], found[2], found[3].trim());
        return row.textContent.toLowerCase().includes(word.toLowerCase());
      });
    }

    show() {
      const words = this.filter.split(",").map(word => word.trim()).filter(Boolean);
      let shown = 0;
      for (const row of this.rows) {
        const passes = this.passes(row, words);
        row.classList.toggle("off", !passes);
        shown += passes;
      }
      for (const row of [this.table.tHead.rows[0], ...this.rows])
        [...row.cells].forEach((cell, place) => cell.classList.toggle("off", this.hidden.has(place)));
      this.count.textContent = words.length ? `${shown} of ${this.rows.length} rows` : "";
    }

    lines() {
      const kept = row => [...row.cells].filter((_, place) => !this.hidden.has(place));
      const rows = this.rows.filter(row => !row.classList.contains("off"));
      return [this.names.filter((_, place) => !this.hidden.has(place)), ...rows.map(row => kept(row).map(text))];
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
      const other = event.target.closest("a, button:not(.pick), input");
      if (row && !other && !String(getSelection())) Report.toggle(runsOf(row));
    });
    new DataTable(table);
  }
  document.addEventListener("select-runs", event => {
    const chosen = new Set(event.detail.runs);
    for (const row of document.querySelectorAll("tr[data-runs]")) {
      const lit = runsOf(row).some(run => chosen.has(run));
      row.classList.toggle("selected", lit);
      row.querySelector(".pick").setAttribute("aria-pressed", String(lit));
    }
  });
})();
