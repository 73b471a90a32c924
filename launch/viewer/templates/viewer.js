"use strict";
// Comfort only: every page reads without it. Text reaches the page by textContent alone.

const follow = (selector) => { const link = document.querySelector(selector); if (link) link.click(); };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  if (event.target.classList.contains("tokens")) return step(event);
  if (event.key === "n") follow("a[rel=next]");
  if (event.key === "p") follow("a[rel=prev]");
  if (event.key === "j" || event.key === "k") {
    const rows = [...document.querySelectorAll("a.row, section[id] h2 a")].filter((row) => row.offsetParent);
    const at = rows.indexOf(document.activeElement) + (event.key === "j" ? 1 : -1);
    const row = rows[Math.max(0, Math.min(at, rows.length - 1))];
    if (row) row.focus();
  }
});

// Arrow keys walk through the tokens of a turn and tell their numbers.
let here = null;
function tell(token) {
  if (here) here.classList.remove("here");
  here = token;
  const told = document.getElementById("told");
  if (!token || !told) return;
  token.classList.add("here");
  told.textContent = "“" + token.textContent + "”  " + token.title;
}
function step(event) {
  const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!way) return;
  event.preventDefault();
  const tokens = [...event.target.children];
  const at = tokens.indexOf(here);
  tell(tokens[at < 0 ? 0 : Math.max(0, Math.min(at + way, tokens.length - 1))]);
}
document.addEventListener("mouseover", (event) => { if (event.target.parentElement?.classList.contains("tokens")) tell(event.target); });

const find = document.getElementById("find");
if (find) {
  find.closest("label").hidden = false;
  find.addEventListener("input", () => {
    const wanted = find.value.toLowerCase();
    for (const row of document.querySelectorAll("table.episodes tbody tr")) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
}
