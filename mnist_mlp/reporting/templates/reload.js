"use strict";
/* Reloads the page of a running sweep and restores what the reader has opened and scrolled to; the address keeps the rest. */
(() => {
  const SECONDS = 10, key = `mnist_mlp ${location.pathname}`;
  const heading = element => element.closest("section")?.querySelector("h2").textContent ?? "";
  const folded = () => [...document.querySelectorAll("details")];
  const titled = details => `${heading(details)} ${details.querySelector("summary").textContent}`;
  const charts = () => [...document.querySelectorAll(".chart")];
  const sections = () => [...document.querySelectorAll("section")];
  const top = element => element.getBoundingClientRect().top;

  function remember() {
    const section = sections().findLast(element => top(element) <= 0);
    return {heights: charts().map(chart => chart.offsetHeight), open: folded().filter(details => details.open).map(titled), scroll: section ? [heading(section), top(section)] : ["", -scrollY]};
  }

  function restore({heights, open, scroll: [title, offset]}) {
    charts().forEach((chart, index) => { chart.style.minHeight = `${heights[index]}px`; }); // drawn after the scrolling
    history.scrollRestoration = "manual";
    folded().forEach(details => { details.open = open.includes(titled(details)); });
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
    State.write();
    location.reload();
  }, 1000 * SECONDS);
})();
