"use strict";
/* The state of the page in the fragment of its address, as in #section-3&runs=1,4&filter=lr%3E0.1: a link shows the same. */
const State = (() => {
  const DELAY = 200; // ms; browsers limit how often a page may change its address
  let targets = [], values = new Map(), timer = null;

  function read() {
    const entries = [...new URLSearchParams(location.hash.slice(1))], last = values;
    targets = entries.filter(([, value]) => !value).flatMap(([ids]) => ids.split(","));
    values = new Map(entries.filter(([, value]) => value));
    if (values.size) document.dispatchEvent(new Event("restore-state"));
    else values = last; // a link to a section
  }
  const encode = text => encodeURIComponent(text).replace(/%(2C|2F|3A|3D)/g, decodeURIComponent).replaceAll("%20", "+");
  function write() {
    clearTimeout(timer);
    const pairs = [...values].map(([key, value]) => `${encode(key)}=${encode(value)}`);
    const fragment = [...targets.length ? [encode(targets.join(","))] : [], ...pairs].join("&");
    history.replaceState(history.state, "", location.href.split("#")[0] + (fragment && `#${fragment}`));
  }
  function later() {
    clearTimeout(timer);
    timer = setTimeout(write, DELAY);
  }
  function set(key, value) {
    if ((values.get(key) ?? "") === value) return;
    if (value) values.set(key, value);
    else values.delete(key);
    later();
  }
  read();
  addEventListener("hashchange", () => {
    read();
    document.dispatchEvent(new Event("visit"));
    write();
  });
  return {get: key => values.get(key) ?? "", set, write, targets: () => targets, visit: ids => { targets = ids; later(); }};
})();
