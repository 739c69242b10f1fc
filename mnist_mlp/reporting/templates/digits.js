"use strict";
// The digit browser: a confusion matrix whose cells open their test digits, for a run or a group, or for two of them.

(() => {
  const DIGITS = [...Array(10).keys()], MOST_THUMBS = 300, CONTRAST = 0.5;

  /** An element with attributes (functions are listeners) and children; text is never markup. */
  function make(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") made.addEventListener(name, value);
      else if (value !== false) made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children);
    return made;
  }

  const whole = number => number.toLocaleString("en");
  const percent = part => `${Math.round(100 * part)} %`;
  const plural = (n, one) => `${whole(n)} ${one}${n === 1 ? "" : "s"}`;

  // ---- any confusion matrix of the page: a grid with arrow keys whose cells open

  function makeGrid(table, open) {
    const cells = [...table.tBodies[0].rows].map(row => [...row.querySelectorAll("td")]);
    let focused = cells[0][0];
    const steps = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};
    const move = cell => { focused.tabIndex = -1; cell.tabIndex = 0; focused = cell; };
    table.setAttribute("role", "grid");
    cells.forEach((row, truth) => row.forEach((cell, said) => {
      cell.tabIndex = truth || said ? -1 : 0;
      cell.addEventListener("click", () => { move(cell); open(truth, said); });
      cell.addEventListener("keydown", event => {
        if (event.key === "Enter" || event.key === " ") open(truth, said);
        else if (event.key in steps) {
          const [down, right] = steps[event.key];
          const next = cells[Math.min(9, Math.max(0, truth + down))][Math.min(9, Math.max(0, said + right))];
          move(next);
          next.focus();
        } else if (event.key === "Home" || event.key === "End") {
          const next = row[event.key === "Home" ? 0 : 9];
          move(next);
          next.focus();
        } else return;
        event.preventDefault();
      });
    }));
    return {cells, focus: (truth, said) => { move(cells[truth][said]); cells[truth][said].focus(); }, move};
  }

  class Browser {
    constructor(model, place, grid, table) {
      Object.assign(this, {model, grid, table, list: [], at: 0, cell: null, mode: "cell"});
      const bytes = Uint8Array.from(atob(model.data.sprite), letter => letter.charCodeAt(0));
      this.sprite = URL.createObjectURL(new Blob([bytes], {type: "image/png"}));
      place.style.setProperty("--sprite", `url(${this.sprite})`);
      place.style.setProperty("--columns", model.data.columns);
      const own = model.choices.find(choice => choice.key === `run ${table.dataset.run}`) || model.choices.at(-1);
      this.first = own;
      this.second = null;
      this.build(place);
      this.selects.first.value = own.key;
      this.showTable();
      const runs = model.choices.filter(choice => choice.rows.length === 1);
      if (runs.length === 2) this.compare(own, runs.find(run => run !== own));
      else this.openWorst();
    }

    build(place) {
      const select = (label, change, none) => {
        const made = make("select", {change: () => change(this.choice(made.value))});
        if (none) made.append(make("option", {value: ""}, none));
        for (const [title, several] of [["Mean over seeds", true], ["Runs", false]]) {
          const some = this.model.choices.filter(choice => choice.rows.length > 1 === several);
          if (some.length) made.append(make("optgroup", {label: title}, ...some.map(choice =>
            make("option", {value: choice.key}, several ? `${choice.label} (${choice.rows.length} seeds)` : choice.label))));
        }
        return [made, make("label", {}, make("span", {}, label), made)];
      };
      const [first, firstLabel] = select("A: run or group", choice => this.choose(choice));
      const [second, secondLabel] = select("B: compare with", choice => this.compare(this.first, choice), "nothing");
      this.selects = {first, second};
      this.modes = make("div", {class: "modes", role: "group", "aria-label": "Which digits"});
      this.controls = make("div", {class: "controls"}, firstLabel, secondLabel, this.modes);
      this.controls.hidden = this.model.choices.length < 2;
      this.head = make("p", {class: "head", "aria-live": "polite"});
      this.says = make("div", {class: "says"});
      this.image = make("div", {class: "digit large", role: "img"});
      this.bars = make("div", {class: "bars"});
      this.strip = make("div", {class: "strip", role: "listbox", tabindex: "0", "aria-label": "Digits of the cell",
        "aria-orientation": "horizontal", keydown: event => this.key(event), click: event => {
          const thumb = event.target.closest("[role=option]");
          if (thumb) this.show(Number(thumb.dataset.at));
        }});
      this.note = make("p", {class: "note"});
      const button = (label, text, click) => make("button", {type: "button", "aria-label": label, title: label, click}, text);
      this.previous = button("Previous digit", "‹", () => this.show(this.at - 1));
      this.next = button("Next digit", "›", () => this.show(this.at + 1));
      const close = button("Close", "×", () => this.close());
      this.figure = make("div", {class: "figure"}, this.image, this.says, this.bars);
      this.panel = make("div", {class: "panel", role: "region", "aria-label": "Test digits of the chosen cell",
        keydown: event => { if (event.key === "Escape") this.close(); }},
        make("div", {class: "bar"}, this.head, this.previous, this.next, close), this.figure, this.strip, this.note);
      this.hint = make("p", {class: "hint"}, "Choose a cell to see its test digits.");
      this.hint.hidden = true;
      place.prepend(this.controls);
      place.append(this.panel, this.hint);
    }

    choice(key) { return this.model.choices.find(choice => choice.key === key) || null; }

    /** Show this run or group; told: the rest of the page is told of it. */
    choose(choice, told = true) {
      if (told) this.tell(choice);
      this.compare(choice, this.second === choice ? null : this.second);
    }

    tell(choice) {
      const runs = choice.rows.map(row => this.model.data.runs[row]);
      document.dispatchEvent(new CustomEvent("select-runs", {detail: {runs, from: "digits"}}));
    }

    compare(first, second) {
      const before = this.second;
      this.first = first;
      this.second = second === first ? null : second;
      this.selects.first.value = first.key;
      this.selects.second.value = this.second ? this.second.key : "";
      this.showTable();
      if (this.second) this.open(this.mode === "cell" && before && this.cell ? "cell" : this.mode === "cell" ? "lost" : this.mode);
      else if (this.cell) this.open("cell");
      else this.openWorst();
    }

    /** The matrix of the first choice, or the first less the second. */
    showTable() {
      const {first, second, model} = this, counts = model.matrix(first);
      const shown = second ? model.matrix(second).map((count, cell) => counts[cell] - count) : counts;
      const off = shown.filter((_, cell) => cell % 11);
      const top = {miss: Math.max(1, ...off.map(Math.abs)), hit: Math.max(1, ...shown.map(Math.abs))};
      const name = second ? `${first.label} less ${second.label}` : first.label;
      this.table.caption.textContent = second ? "A less B: orange where A makes more mistakes, blue where fewer"
        : `Confusion matrix of ${name}${first.rows.length > 1 ? `, mean over ${first.rows.length} seeds` : ""}`;
      this.table.classList.toggle("difference", Boolean(second));
      this.grid.cells.forEach((row, truth) => row.forEach((cell, said) => {
        const count = shown[truth * 10 + said], hit = truth === said;
        const total = DIGITS.reduce((sum, digit) => sum + counts[truth * 10 + digit], 0);
        const worse = hit ? count < 0 : count > 0;
        cell.className = second ? (worse ? "miss" : "hit") : hit ? "hit" : "miss";
        const part = second ? Math.abs(count) / (hit ? top.hit : top.miss) : hit ? count / Math.max(1, total) : count / top.miss;
        cell.style.setProperty("--heat", (hit && !second ? part : part ** CONTRAST).toFixed(3));
        const text = count.toFixed(Math.abs(count) < 10 ? 1 : 0).replace(".0", "").replace("-", "−");
        cell.textContent = Math.abs(count) < 0.05 ? "" : (second && count > 0 ? "+" : "") + text;
        cell.setAttribute("aria-label", `true ${truth}, predicted ${said}: ${cell.textContent || 0}`);
      }));
      this.mark();
    }

    mark() {
      this.grid.cells.flat().forEach(cell => cell.removeAttribute("aria-selected"));
      if (this.mode === "cell" && this.cell && !this.panel.hidden)
        this.grid.cells[this.cell[0]][this.cell[1]].setAttribute("aria-selected", "true");
    }

    openWorst() {
      const counts = this.model.matrix(this.first).map((count, cell) => cell % 11 ? count : 0);
      const worst = counts.indexOf(Math.max(...counts));
      this.cell = [Math.floor(worst / 10), worst % 10];
      this.open("cell");
    }

    openCell(truth, said) {
      this.cell = [truth, said];
      this.open("cell");
      if (this.list.length) this.strip.focus({preventScroll: true});
      this.panel.scrollIntoView({block: "nearest"});
    }

    open(mode) {
      const {model, first, second} = this;
      if (mode === "cell" && !this.cell) return this.openWorst();
      this.mode = mode;
      const flips = second ? model.flips(first, second) : null;
      this.list = mode !== "cell" ? flips[mode] : second ? model.difference(first, second, ...this.cell)
        : model.cell(first, ...this.cell);
      this.panel.hidden = false;
      this.hint.hidden = true;
      this.showModes(flips);
      this.showStrip();
      this.mark();
      this.show(0);
    }

    showModes(flips) {
      const names = {lost: "right in A, wrong in B", gained: "wrong in A, right in B", other: "wrong in both, differently"};
      this.modes.replaceChildren(...Object.entries(flips ? names : {}).map(([mode, text]) =>
        make("button", {type: "button", "aria-pressed": String(this.mode === mode), click: () => this.open(mode)},
          make("b", {}, whole(flips[mode].length)), ` ${text}`)));
    }

    showStrip() {
      const some = this.list.slice(0, MOST_THUMBS);
      this.strip.replaceChildren(...some.map((place, at) => {
        const made = make("div", {class: "digit", role: "option", id: `digit-${at}`, "data-at": at, "aria-selected": "false",
          "aria-label": this.words(place)});
        this.paint(made, place);
        return made;
      }));
      this.strip.hidden = this.figure.hidden = !this.list.length;
      const several = this.first.rows.length > 1;
      let note = "";
      if (this.mode === "cell" && !this.second) {
        const count = this.model.matrix(this.first)[this.cell[0] * 10 + this.cell[1]];
        if (!several && count > this.list.length)
          note = `The page holds ${whole(this.list.length)} of the ${whole(count)} images in this cell.`;
        else if (several && this.list.length) note = "Every digit that at least one seed counts here, those of most seeds first.";
        if (this.cell[0] === this.cell[1] && this.list.length) note += " The least certain come first.";
      }
      if (this.mode !== "cell" && !this.model.data.complete) note = `Counted among the ${whole(this.model.data.places.length)} digits that the page holds.`;
      if (this.list.length > MOST_THUMBS) note += ` Shown are the first ${MOST_THUMBS}.`;
      this.list = some;
      this.note.textContent = note.trim();
      this.note.hidden = !note;
    }

    words(place) {
      const said = choice => this.model.answer(choice, place);
      return `true ${this.model.truth(place)}, ` + (this.second ? `A says ${said(this.first)}, B says ${said(this.second)}`
        : `predicted ${said(this.first)}`);
    }

    paint(element, place) {
      const columns = this.model.data.columns;
      element.style.setProperty("--x", place % columns);
      element.style.setProperty("--y", Math.floor(place / columns));
    }

    show(at) {
      const total = this.list.length;
      this.at = Math.max(0, Math.min(total - 1, at));
      this.previous.disabled = this.at <= 0;
      this.next.disabled = this.at >= total - 1;
      const what = this.mode === "cell" ? `true ${this.cell[0]}, predicted ${this.cell[1]}`
        : {lost: "right in A, wrong in B", gained: "wrong in A, right in B", other: "wrong in both, differently"}[this.mode];
      this.head.textContent = total ? `${what}: ${this.at + 1} of ${total}` : `${what}: no images`;
      if (!total) return this.strip.removeAttribute("aria-activedescendant");
      const place = this.list[this.at];
      for (const thumb of this.strip.children) {
        const chosen = Number(thumb.dataset.at) === this.at;
        thumb.setAttribute("aria-selected", String(chosen));
        if (chosen) {
          this.strip.setAttribute("aria-activedescendant", thumb.id);
          this.strip.scrollLeft = thumb.offsetLeft - this.strip.offsetLeft - this.strip.clientWidth / 2;
        }
      }
      this.paint(this.image, place);
      this.image.setAttribute("aria-label", `Test image ${this.model.place(place)}: ${this.words(place)}`);
      this.showAnswers(place);
    }

    showAnswers(place) {
      const {model, first, second} = this, truth = model.truth(place), chosen = second ? [first, second] : [first];
      const line = (choice, name) => {
        const votes = model.votes(choice, place), said = model.answer(choice, place), n = choice.rows.length;
        const right = said === truth;
        return make("p", {}, name && make("b", {class: `name ${name.toLowerCase()}`}, name), ` says ${said} `,
          make("span", {class: right ? "right" : "wrong"}, right ? "✓" : "✗"), n > 1 ? ` ${votes[said]} of ${n} seeds` : "");
      };
      this.says.replaceChildren(
        make("p", {}, make("b", {}, `True ${truth}`), make("span", {class: "number"}, ` test image ${whole(model.place(place))}`)),
        ...chosen.map((choice, number) => line(choice, second ? "AB"[number] : "")));
      const known = chosen.map(choice => model.probability(choice, place));
      const values = chosen.map((choice, number) => known[number]?.values
        || model.votes(choice, place).map(count => count / choice.rows.length));
      const sources = known.map((one, number) => !one ? (chosen[number].rows.length > 1 ? `votes of ${plural(chosen[number].rows.length, "seed")}` : "answer, without probabilities")
        : chosen[number].rows.length > 1 ? `mean probability of ${plural(one.of, "seed")}` : "probability");
      const body = DIGITS.map(digit => make("tr", {class: digit === truth ? "truth" : ""},
        make("th", {scope: "row"}, String(digit)), ...values.map((one, number) => {
          const wrong = !second && digit !== truth && digit === model.answer(first, place);
          return make("td", {}, make("span", {class: `fill ${"ab"[number]}${wrong ? " wrong" : ""}`, style: `--part: ${one[digit].toFixed(3)}`}),
            make("span", {class: "value"}, percent(one[digit]) + (digit === truth && !number ? " true" : "")));
        })));
      const same = new Set(sources).size === 1;
      const caption = same ? sources[0] : sources.map((text, number) => `${"AB"[number]}: ${text}`).join(", ");
      const head = make("tr", {}, make("th", {scope: "col"}, "digit"), make("th", {scope: "col"}, "A"), make("th", {scope: "col"}, "B"));
      this.bars.replaceChildren(make("table", {}, make("caption", {}, caption), ...(second ? [make("thead", {}, head)] : []),
        make("tbody", {}, ...body)));
    }

    key(event) {
      const steps = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 10, PageUp: -10};
      if (event.key in steps) this.show(this.at + steps[event.key]);
      else if (event.key === "Home") this.show(0);
      else if (event.key === "End") this.show(this.list.length - 1);
      else return;
      event.preventDefault();
    }

    close() {
      this.panel.hidden = true;
      this.hint.hidden = false;
      this.mark();
      if (this.cell) this.grid.focus(...this.cell);
    }

    /** The page has chosen runs: one, the runs of a group, or two to compare. */
    follow(ids) {
      const rows = ids.map(id => this.model.data.runs.indexOf(id)).filter(row => row >= 0);
      const same = choice => choice.rows.length === rows.length && choice.rows.every(row => rows.includes(row));
      const found = this.model.choices.find(same), one = row => this.model.choices.find(
        choice => choice.rows.length === 1 && choice.rows[0] === row);
      if (found) this.choose(found, false);
      else if (rows.length === 2) this.compare(one(rows[0]), one(rows[1]));
    }
  }

  async function start() {
    const place = document.querySelector(".digits"), model = place && await digitModel.load();
    if (!model) return;
    let browser = null;
    for (const table of document.querySelectorAll("table.confusion[data-run]")) {
      const main = place.contains(table);
      const grid = makeGrid(table, (truth, said) => {
        const choice = main ? null : browser.choice(`run ${table.dataset.run}`);
        if (choice) browser.choose(choice);
        browser.openCell(truth, said);
      });
      if (main) browser = new Browser(model, place, grid, table);
    }
    document.addEventListener("select-runs", event => {
      if (event.detail.from !== "digits") browser.follow(event.detail.runs);
    });
    place.dataset.ready = "true";
  }

  const soon = window.requestIdleCallback || (call => setTimeout(call, 50));
  addEventListener("DOMContentLoaded", () => soon(() => start()));
})();
