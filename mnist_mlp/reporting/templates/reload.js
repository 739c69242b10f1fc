"use strict";
/* Reloads the page of a running sweep and restores what the reader has selected, filtered, opened and scrolled to. */
(() => {
  const SECONDS = 10, key = `mnist_mlp ${location.pathname}`;
  const heading = element => element.closest("section")?.querySelector("h2").textContent ?? "";
  const folded = () => [...document.querySelectorAll("details")], filters = () => [...document.querySelectorAll("input[type=search]")];
  const titled = details => `${heading(details)} ${details.querySelector("summary").textContent}`;
  const sections = () => [...document.querySelectorAll("section")];
  const top = element => element.getBoundingClientRect().top;

  function remember() {
    const section = sections().findLast(element => top(element) <= 0);
    return {
      selected: Report.selection().map(run => Report.data.runs[run].name), filters: filters().map(filter => filter.value),
      open: folded().filter(details => details.open).map(titled), scroll: section ? [heading(section), top(section)] : ["", -scrollY],
    };
  }

  function restore({selected, filters: texts, open, scroll: [title, offset]}) {
    history.scrollRestoration = "manual";
    folded().forEach(details => { details.open = open.includes(titled(details)); });
    filters().forEach((filter, index) => {
      filter.value = texts[index] ?? "";
      filter.dispatchEvent(new Event("input"));
    });
    Report.select(Report.data.runs.filter(run => selected.includes(run.name)).map(run => run.id));
    addEventListener("load", () => {
      const section = sections().find(element => heading(element) === title);
      scrollTo({top: (section ? scrollY + top(section) : 0) - offset, behavior: "instant"});
    });
  }

  try { // storage may be disabled
    const state = JSON.parse(sessionStorage.getItem(key));
    sessionStorage.removeItem(key);
    if (state) restore(state);
  } catch (error) { console.debug(error); }
  if (!document.getElementById("running")) return;
  setInterval(() => {
    if (document.hidden || document.activeElement?.matches("input, select") || !getSelection().isCollapsed) return;
    try { sessionStorage.setItem(key, JSON.stringify(remember())); } catch (error) { console.debug(error); }
    location.reload();
  }, 1000 * SECONDS);
})();
