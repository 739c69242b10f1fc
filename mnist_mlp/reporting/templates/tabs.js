"use strict";
/* Shows consecutive sections of a group as tabs; without JavaScript and in print they follow one another. */
(() => {
  const {make} = Report;
  const KEYS = {ArrowLeft: index => index - 1, ArrowRight: index => index + 1, Home: () => 0, End: () => -1};
  const opened = () => [...document.querySelectorAll("[role=tabpanel]:not([hidden], [role=tablist] + *)")].map(panel => panel.id);
  const visit = id => State.visit([...new Set([id, ...opened()])]);

  for (const group of document.querySelectorAll(".tabs:has(> section + section)")) {
    const panels = [...group.children];
    const show = shown => panels.forEach((panel, index) => {
      if (panel === shown) panel.removeAttribute("hidden");
      else panel.setAttribute("hidden", "until-found"); // found by the browser's search, which sends beforematch
      tabs[index].setAttribute("aria-selected", String(panel === shown));
      tabs[index].tabIndex = panel === shown ? 0 : -1;
    });
    const tabs = panels.map(panel => {
      const heading = panel.querySelector("h2"), label = heading.textContent.split(": ")[0], id = `tab-${panel.id}`;
      heading.classList.toggle("repeated", heading.textContent === label);
      for (const [name, value] of Object.entries({role: "tabpanel", "aria-labelledby": id, tabindex: 0})) panel.setAttribute(name, value);
      panel.addEventListener("beforematch", () => show(panel));
      return make("button", {type: "button", role: "tab", id, "aria-controls": panel.id, onclick: () => { show(panel); visit(panel.id); }}, label);
    });
    group.prepend(make("div", {role: "tablist", "aria-label": group.dataset.label, onkeydown: event => {
      const tab = event.key in KEYS && tabs.at(KEYS[event.key](tabs.indexOf(event.target)) % tabs.length);
      if (!tab) return;
      event.preventDefault();
      tab.click();
      tab.focus();
    }}, ...tabs));
    show(panels[0]);
  }

  /* Open the tabs that contain the targets of the address. */
  function follow() {
    const targets = State.targets().map(id => document.getElementById(id)).filter(Boolean);
    for (const target of targets) target.closest("[role=tabpanel]")?.dispatchEvent(new Event("beforematch"));
    if (!targets.length) return;
    targets[0].scrollIntoView();
    visit(targets[0].id);
  }
  document.addEventListener("visit", follow);
  follow();
})();
