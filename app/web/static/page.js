// Keeps what is shown up to date, and lets it be copied. The page works without it.
"use strict";

const said = document.getElementById("said");

function copyable(within) {
  for (const pre of within.querySelectorAll(".snippet pre")) {
    if (pre.parentElement.querySelector("button")) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "small copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy: ${pre.getAttribute("aria-label")}`);
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(pre.textContent);
      button.textContent = "Copied";
      said.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    pre.before(button);
  }
}

// What a part is while somebody is in the middle of it: a menu that is open, a field, a selection.
function busy(part) {
  const selection = document.getSelection();
  return part.contains(document.activeElement) && document.activeElement !== part
    || part.querySelector("details.confirm[open]") !== null
    || selection !== null && !selection.isCollapsed && part.contains(selection.anchorNode);
}

function states(within) {
  const found = new Map();
  for (const each of within.querySelectorAll("[data-state]")) {
    const link = each.querySelector("a.name");
    found.set(link ? link.href : each.id, [each.dataset.name, each.dataset.state]);
  }
  return found;
}

function swap(fresh) {
  const before = states(document);
  const told = [];
  for (const [key, [name, state]] of states(fresh)) {
    const known = before.get(key);
    if (known && known[1] !== state) told.push(`${name} is ${state}`);
  }
  for (const part of document.querySelectorAll("[data-part]")) {
    const other = fresh.getElementById(part.id);
    if (!other || part.innerHTML === other.innerHTML || busy(part)) continue;
    const open = [...part.querySelectorAll("details")].map((each) => each.open);
    const scrolled = [...part.querySelectorAll(".scroll, .log, .wide")].map((each) => each.scrollTop);
    part.replaceWith(other);
    [...other.querySelectorAll("details")].forEach((each, at) => { each.open = open[at] ?? each.open; });
    [...other.querySelectorAll(".scroll, .log, .wide")].forEach((each, at) => { each.scrollTop = scrolled[at] ?? 0; });
    copyable(other);
  }
  if (told.length) said.textContent = told.join(". ");
  return told.some((each) => each.endsWith("succeeded"));
}

async function refresh(seconds) {
  let wait = seconds;
  for (;;) {
    await new Promise((done) => setTimeout(done, 1000 * wait));
    if (document.hidden) continue;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      // Whoever is no longer signed in is led to where one signs in.
      if (answer.redirected) { location.assign(answer.url); return; }
      if (!answer.ok) { wait = Math.min(2 * wait, 60); continue; }
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const succeeded = swap(fresh);
      if (document.getElementById("title") && succeeded) { location.reload(); return; }
      if (!fresh.body.dataset.live) return;
      wait = seconds;
    } catch {
      wait = Math.min(2 * wait, 60);
    }
  }
}

copyable(document);
if (document.body.dataset.live) refresh(Number(document.body.dataset.live));
const log = document.querySelector("pre.log");
if (log) log.scrollTop = log.scrollHeight;
