"use strict";
/* Shows consecutive sections of a group as tabs; without JavaScript and in print they follow one another. */
(() => {
  const {make} = Report;
  const KEYS = {ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity};

  function build(group) {
    const panels = [...group.children];
    const tabs = panels.map(panel => {
      const heading = panel.querySelector("h2"), label = heading.textContent.split(": ")[0];
      heading.classList.toggle("repeated", heading.textContent === label);
      return make("button", {type: "button", role: "tab", id: `tab-${panel.id}`, "aria-controls": panel.id, onclick: () => show(panel)}, label);
    });
    const show = shown => panels.forEach((panel, index) => {
      const isShown = panel === shown;
      if (isShown) panel.removeAttribute("hidden");
      else panel.setAttribute("hidden", "until-found"); // found by the browser's search
      tabs[index].setAttribute("aria-selected", String(isShown));
      tabs[index].tabIndex = isShown ? 0 : -1;
    });
    panels.forEach((panel, index) => {
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", tabs[index].id);
      panel.tabIndex = 0;
      panel.addEventListener("beforematch", () => show(panel));
      panel.addEventListener("show-tab", () => show(panel));
    });
    group.prepend(make("div", {role: "tablist", "aria-label": group.dataset.label, onkeydown: event => {
      if (!(event.key in KEYS)) return;
      const next = tabs.indexOf(event.target) + KEYS[event.key], last = tabs.length - 1;
      const tab = tabs[Number.isFinite(next) ? (next + tabs.length) % tabs.length : next > 0 ? last : 0];
      tab.click();
      tab.focus();
      event.preventDefault();
    }}, ...tabs));
    show(panels[0]);
  }

  /* Open the tab that contains the target of the fragment. */
  function follow() {
    const target = document.getElementById(location.hash.slice(1)), panel = target?.closest("[role=tabpanel]");
    if (!panel) return;
    panel.dispatchEvent(new Event("show-tab"));
    target.scrollIntoView();
  }

  for (const group of document.querySelectorAll(".tabs")) if (group.children.length > 1) build(group);
  addEventListener("hashchange", follow);
  follow();
})();
