"use strict";
// The image browser: a confusion matrix whose cells open their test images, for one run or group, or for two of them.

(() => {
  const {make} = Report;
  const MAX_THUMBNAILS = 300, MAX_BARS = 10, CONTRAST = 0.5;
  const MODES = {onlyFirst: "correct only in A", onlySecond: "correct only in B", neither: "incorrect in both, different predictions"};

  const integer = number => number.toLocaleString("en");
  const percent = fraction => `${Math.round(100 * fraction)} %`;
  const plural = (n, noun) => `${integer(n)} ${noun}${n === 1 ? "" : "s"}`;

  /** Turn a confusion matrix into a grid with arrow-key navigation whose cells can be opened. */
  function makeGrid(table, open) {
    const cells = [...table.tBodies[0].rows].map(row => [...row.querySelectorAll("td")]);
    let focused = cells[0][0], last = cells.length - 1;
    const steps = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};
    const move = cell => { focused.tabIndex = -1; cell.tabIndex = 0; focused = cell; };
    table.setAttribute("role", "grid");
    cells.forEach((row, truth) => row.forEach((cell, predicted) => {
      cell.tabIndex = truth || predicted ? -1 : 0;
      cell.addEventListener("click", () => { move(cell); open(truth, predicted); });
      cell.addEventListener("keydown", event => {
        if (event.key === "Enter" || event.key === " ") open(truth, predicted);
        else if (event.key in steps) {
          const [down, right] = steps[event.key];
          const next = cells[Math.min(last, Math.max(0, truth + down))][Math.min(last, Math.max(0, predicted + right))];
          move(next);
          next.focus();
        } else if (event.key === "Home" || event.key === "End") {
          const next = row[event.key === "Home" ? 0 : last];
          move(next);
          next.focus();
        } else return;
        event.preventDefault();
      });
    }));
    return {cells, focus: (truth, predicted) => { move(cells[truth][predicted]); cells[truth][predicted].focus(); }, move};
  }

  class Browser {
    constructor(model, container, grid, table) {
      Object.assign(this, {model, names: model.names, grid, table, list: [], position: 0, cell: null, mode: "cell"});
      const bytes = Uint8Array.from(atob(model.data.sprite), character => character.charCodeAt(0));
      this.sprite = URL.createObjectURL(new Blob([bytes], {type: "image/png"}));
      container.style.setProperty("--sprite", `url(${this.sprite})`);
      container.style.setProperty("--columns", model.data.columns);
      const initial = model.choices.find(choice => choice.key === `run ${table.dataset.run}`) || model.choices.at(-1);
      this.first = initial;
      this.second = null;
      this.build(container);
      this.selects.first.value = initial.key;
      this.showTable();
      const runs = model.choices.filter(choice => choice.rows.length === 1);
      if (runs.length === 2) this.compare(initial, runs.find(run => run !== initial));
      else this.openWorst();
    }

    build(container) {
      const labeledSelect = (label, change, none) => {
        const select = make("select", {onchange: () => change(this.choice(select.value))});
        if (none) select.append(make("option", {value: ""}, none));
        for (const [title, isGroup] of [["Mean over seeds", true], ["Runs", false]]) {
          const choices = this.model.choices.filter(choice => choice.rows.length > 1 === isGroup);
          if (choices.length) select.append(make("optgroup", {label: title}, ...choices.map(choice =>
            make("option", {value: choice.key}, isGroup ? `${choice.label} (${choice.rows.length} seeds)` : choice.label))));
        }
        return [select, make("label", {}, make("span", {}, label), select)];
      };
      const [first, firstLabel] = labeledSelect("A: run or group", choice => this.choose(choice));
      const [second, secondLabel] = labeledSelect("B: compare with", choice => this.compare(this.first, choice), "none");
      this.selects = {first, second};
      this.modes = make("div", {class: "modes", role: "group", "aria-label": "Images to show"});
      this.controls = make("div", {class: "controls"}, firstLabel, secondLabel, this.modes);
      this.controls.hidden = this.model.choices.length < 2;
      this.head = make("p", {class: "head", "aria-live": "polite"});
      this.answers = make("div", {class: "answers"});
      this.image = make("div", {class: "digit large", role: "img"});
      this.bars = make("div", {class: "bars"});
      this.strip = make("div", {class: "strip", role: "listbox", tabindex: "0", "aria-label": "Images in the cell",
        "aria-orientation": "horizontal", onkeydown: event => this.handleKey(event), onclick: event => {
          const thumb = event.target.closest("[role=option]");
          if (thumb) this.show(Number(thumb.dataset.position));
        }});
      this.note = make("p", {class: "note"});
      const button = (label, text, onclick) => make("button", {type: "button", "aria-label": label, title: label, onclick}, text);
      this.previous = button("Previous image", "‹", () => this.show(this.position - 1));
      this.next = button("Next image", "›", () => this.show(this.position + 1));
      const close = button("Close", "×", () => this.close());
      this.figure = make("div", {class: "figure"}, this.image, this.answers, this.bars);
      this.panel = make("div", {class: "panel", role: "region", "aria-label": "Test images in the selected cell",
        onkeydown: event => { if (event.key === "Escape") this.close(); }},
        make("div", {class: "bar"}, this.head, this.previous, this.next, close), this.figure, this.strip, this.note);
      this.hint = make("p", {class: "hint"}, "Select a cell to see its test images.");
      this.hint.hidden = true;
      container.prepend(this.controls);
      container.append(this.panel, this.hint);
    }

    choice(key) { return this.model.choices.find(choice => choice.key === key) || null; }

    /** Show this run or group; notify: whether to select it on the rest of the page, too. */
    choose(choice, notify = true) {
      if (notify) this.selectOnPage(choice);
      this.compare(choice, this.second === choice ? null : this.second);
    }

    selectOnPage(choice) {
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
      if (this.second) this.open(this.mode === "cell" && before && this.cell ? "cell" : this.mode === "cell" ? "onlyFirst" : this.mode);
      else if (this.cell) this.open("cell");
      else this.openWorst();
    }

    /** Show the matrix of the first choice, or the difference first minus second. */
    showTable() {
      const {first, second, model} = this, counts = model.matrix(first);
      const shown = second ? model.matrix(second).map((count, cell) => counts[cell] - count) : counts;
      const classCount = this.names.length, offDiagonal = shown.filter((_, cell) => cell % (classCount + 1));
      const max = {miss: Math.max(1, ...offDiagonal.map(Math.abs)), hit: Math.max(1, ...shown.map(Math.abs))};
      this.table.caption.textContent = second ? "A minus B: orange if A makes more mistakes, blue if fewer"
        : `Confusion matrix of ${first.label}${first.rows.length > 1 ? `, mean over ${first.rows.length} seeds` : ""}`;
      this.table.classList.toggle("difference", Boolean(second));
      this.grid.cells.forEach((row, truth) => row.forEach((cell, predicted) => {
        const count = shown[truth * classCount + predicted], hit = truth === predicted;
        const total = this.names.reduce((sum, _, label) => sum + counts[truth * classCount + label], 0);
        const worse = hit ? count < 0 : count > 0;
        cell.className = second ? (worse ? "miss" : "hit") : hit ? "hit" : "miss";
        const fraction = second ? Math.abs(count) / (hit ? max.hit : max.miss) : hit ? count / Math.max(1, total) : count / max.miss;
        cell.style.setProperty("--heat", (hit && !second ? fraction : fraction ** CONTRAST).toFixed(3));
        const text = count.toFixed(Math.abs(count) < 10 ? 1 : 0).replace(".0", "").replace("-", "−");
        cell.textContent = Math.abs(count) < 0.05 ? "" : (second && count > 0 ? "+" : "") + text;
        cell.setAttribute("aria-label", `${this.nameCell(truth, predicted)}: ${cell.textContent || 0}`);
      }));
      this.markCell();
    }

    nameCell(truth, predicted) { return `true ${this.names[truth]}, predicted ${this.names[predicted]}`; }

    markCell() {
      this.grid.cells.flat().forEach(cell => cell.removeAttribute("aria-selected"));
      if (this.mode === "cell" && this.cell && !this.panel.hidden)
        this.grid.cells[this.cell[0]][this.cell[1]].setAttribute("aria-selected", "true");
    }

    openWorst() {
      const classCount = this.names.length;
      const counts = this.model.matrix(this.first).map((count, cell) => cell % (classCount + 1) ? count : 0);
      const worst = counts.indexOf(Math.max(...counts));
      this.cell = [Math.floor(worst / classCount), worst % classCount];
      this.open("cell");
    }

    openCell(truth, predicted) {
      this.cell = [truth, predicted];
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
      this.markCell();
      this.show(0);
    }

    showModes(flips) {
      this.modes.replaceChildren(...Object.entries(flips ? MODES : {}).map(([mode, text]) =>
        make("button", {type: "button", "aria-pressed": String(this.mode === mode), onclick: () => this.open(mode)},
          make("b", {}, integer(flips[mode].length)), ` ${text}`)));
    }

    showStrip() {
      const shown = this.list.slice(0, MAX_THUMBNAILS);
      this.strip.replaceChildren(...shown.map((index, position) => {
        const thumbnail = make("div", {class: "digit", role: "option", id: `digit-${position}`, "data-position": position, "aria-selected": "false",
          "aria-label": this.describe(index)});
        this.paint(thumbnail, index);
        return thumbnail;
      }));
      this.strip.hidden = this.figure.hidden = !this.list.length;
      const isGroup = this.first.rows.length > 1;
      let note = "";
      if (this.mode === "cell" && !this.second) {
        const count = this.model.matrix(this.first)[this.cell[0] * this.names.length + this.cell[1]];
        if (!isGroup && count > this.list.length)
          note = `The page includes ${integer(this.list.length)} of the ${integer(count)} images in this cell.`;
        else if (isGroup && this.list.length) note = "Images that at least one seed assigns to this cell, most seeds first.";
        if (this.cell[0] === this.cell[1] && this.list.length) note += " Least confident first.";
      }
      if (this.mode !== "cell" && !this.model.data.complete) note = `Counts cover only the ${integer(this.model.data.indices.length)} images included in the page.`;
      if (this.list.length > MAX_THUMBNAILS) note += ` The strip shows the first ${MAX_THUMBNAILS}.`;
      this.note.textContent = note.trim();
      this.note.hidden = !note;
    }

    describe(index) {
      const predicted = choice => this.names[this.model.prediction(choice, index)];
      return `true ${this.names[this.model.truth(index)]}, ` + (this.second ? `A predicts ${predicted(this.first)}, B predicts ${predicted(this.second)}`
        : `predicted ${predicted(this.first)}`);
    }

    paint(element, index) {
      const columns = this.model.data.columns;
      element.style.setProperty("--x", index % columns);
      element.style.setProperty("--y", Math.floor(index / columns));
    }

    show(position) {
      const total = this.list.length;
      this.position = Math.max(0, Math.min(total - 1, position));
      this.previous.disabled = this.position <= 0;
      this.next.disabled = this.position >= total - 1;
      const title = this.mode === "cell" ? this.nameCell(...this.cell) : MODES[this.mode];
      this.head.textContent = total ? `${title}: ${integer(this.position + 1)} of ${integer(total)}` : `${title}: no images`;
      this.strip.removeAttribute("aria-activedescendant");
      if (!total) return;
      const index = this.list[this.position];
      for (const thumb of this.strip.children) {
        const isShown = Number(thumb.dataset.position) === this.position;
        thumb.setAttribute("aria-selected", String(isShown));
        if (isShown) {
          this.strip.setAttribute("aria-activedescendant", thumb.id);
          this.strip.scrollLeft = thumb.offsetLeft - this.strip.offsetLeft - this.strip.clientWidth / 2;
        }
      }
      this.paint(this.image, index);
      this.image.setAttribute("aria-label", `Test image ${this.model.imageNumber(index)}: ${this.describe(index)}`);
      this.showAnswers(index);
    }

    showAnswers(index) {
      const {model, first, second} = this, truth = model.truth(index), chosen = second ? [first, second] : [first];
      const line = (choice, name) => {
        const votes = model.votes(choice, index), predicted = model.prediction(choice, index), n = choice.rows.length;
        const isCorrect = predicted === truth;
        return make("p", {}, name && make("b", {class: `name ${name.toLowerCase()}`}, name), ` predicted ${this.names[predicted]} `,
          make("span", {class: isCorrect ? "correct" : "incorrect"}, isCorrect ? "✓" : "✗"), n > 1 ? ` ${votes[predicted]} of ${n} seeds` : "");
      };
      this.answers.replaceChildren(
        make("p", {}, make("b", {}, `True ${this.names[truth]}`), make("span", {class: "number"}, ` test image ${integer(model.imageNumber(index))}`)),
        ...chosen.map((choice, number) => line(choice, second ? "AB"[number] : "")));
      const probabilities = chosen.map(choice => model.probability(choice, index));
      const values = chosen.map((choice, number) => probabilities[number]?.values
        || model.votes(choice, index).map(count => count / choice.rows.length));
      const sources = probabilities.map((mean, number) => !mean ? (chosen[number].rows.length > 1 ? `votes of ${plural(chosen[number].rows.length, "seed")}` : "prediction without probabilities")
        : chosen[number].rows.length > 1 ? `mean probability over ${plural(mean.runs, "seed")}` : "probability");
      const labels = [...this.names.keys()], isAll = labels.length <= MAX_BARS;
      const weight = label => (label === truth ? 2 : 0) + Math.max(...values.map(fractions => fractions[label]));
      const shown = isAll ? labels : labels.sort((a, b) => weight(b) - weight(a)).slice(0, MAX_BARS).sort((a, b) => a - b);
      const body = shown.map(label => make("tr", {class: label === truth ? "truth" : ""},
        make("th", {scope: "row"}, this.names[label]), ...values.map((fractions, number) => {
          const isIncorrect = !second && label !== truth && label === model.prediction(first, index);
          return make("td", {}, make("span", {class: `fill ${"ab"[number]}${isIncorrect ? " incorrect" : ""}`, style: `--fraction: ${fractions[label].toFixed(3)}`}),
            make("span", {class: "value"}, percent(fractions[label]) + (label === truth && !number ? " true" : "")));
        })));
      const same = new Set(sources).size === 1;
      const caption = (same ? sources[0] : sources.map((text, number) => `${"AB"[number]}: ${text}`).join(", "))
        + (isAll ? "" : `, of the ${MAX_BARS} most likely classes`);
      const head = make("tr", {}, make("th", {scope: "col"}, this.table.dataset.noun), make("th", {scope: "col"}, "A"), make("th", {scope: "col"}, "B"));
      this.bars.replaceChildren(make("table", {}, make("caption", {}, caption), ...(second ? [make("thead", {}, head)] : []),
        make("tbody", {}, ...body)));
    }

    handleKey(event) {
      const steps = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 10, PageUp: -10};
      if (event.key in steps) this.show(this.position + steps[event.key]);
      else if (event.key === "Home") this.show(0);
      else if (event.key === "End") this.show(this.list.length - 1);
      else return;
      event.preventDefault();
    }

    close() {
      this.panel.hidden = true;
      this.hint.hidden = false;
      this.markCell();
      if (this.cell) this.grid.focus(...this.cell);
    }

    /** Show the runs selected on the page: one run, a group, or two runs to compare. */
    follow(ids) {
      const rows = ids.map(id => this.model.data.runs.indexOf(id)).filter(row => row >= 0);
      const matches = choice => choice.rows.length === rows.length && choice.rows.every(row => rows.includes(row));
      const match = this.model.choices.find(matches), runOf = row => this.model.choices.find(
        choice => choice.rows.length === 1 && choice.rows[0] === row);
      if (match) this.choose(match, false);
      else if (rows.length === 2) this.compare(runOf(rows[0]), runOf(rows[1]));
    }
  }

  async function start() {
    const container = document.querySelector(".digits"), model = container && await digitModel.load();
    if (!model) return;
    let browser = null;
    for (const table of document.querySelectorAll("table.confusion[data-run]")) {
      const isMain = container.contains(table);
      const grid = makeGrid(table, (truth, predicted) => {
        const choice = isMain ? null : browser.choice(`run ${table.dataset.run}`);
        if (choice) browser.choose(choice);
        browser.openCell(truth, predicted);
      });
      if (isMain) browser = new Browser(model, container, grid, table);
    }
    document.addEventListener("select-runs", event => {
      if (event.detail.from !== "digits") browser.follow(event.detail.runs);
    });
    browser.follow(Report.selection());
    container.dataset.ready = "true";
  }

  const whenIdle = window.requestIdleCallback || (call => setTimeout(call, 50));
  addEventListener("DOMContentLoaded", () => whenIdle(() => start()));
})();
