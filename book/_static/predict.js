/* "Predict first" in the pages: write down a guess, uncover the answer, go to where it is derived.

   book/_ext/boxes.py has put a link behind each question. Guesses stay in this browser. */
"use strict";

document.querySelectorAll(".admonition.tip .to-answer a").forEach((link) => {
  const number = link.hash.slice("#prediction-".length);
  const place = document.getElementById(link.hash.slice(1));
  const answer = place && place.closest("p, li, dd, td");
  if (!answer) return;
  const key = `prediction:${location.pathname.split("/").pop()}:${number}`;

  const guess = document.createElement("input");
  guess.type = "text";
  guess.placeholder = "your guess";
  guess.setAttribute("aria-label", `Your answer to question ${number}`);
  guess.value = kept(key);
  guess.addEventListener("input", () => keep(key, guess.value));
  guess.addEventListener("keydown", (event) => {
    event.stopPropagation(); // the theme has keys of its own
    if (event.key === "Enter") reveal();
  });

  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "reveal";
  button.setAttribute("aria-expanded", "false");
  button.addEventListener("click", reveal);

  const row = document.createElement("span");
  row.className = "guess";
  row.append(guess, button);
  link.parentElement.before(row);

  function reveal() {
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    button.textContent = open ? "reveal" : "hide";
    if (open) {
      row.parentElement.querySelector(".revealed").remove();
      return;
    }
    const shown = document.createElement("span");
    shown.className = "revealed";
    shown.setAttribute("role", "status");
    shown.append(...answer.cloneNode(true).childNodes);
    shown.querySelectorAll("[id]").forEach((element) => element.removeAttribute("id"));
    link.parentElement.after(shown);
  }
});

function kept(key) {
  try {
    return localStorage.getItem(key) || "";
  } catch {
    return ""; // a browser that keeps nothing
  }
}

function keep(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // a browser that keeps nothing
  }
}
