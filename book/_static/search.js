/* Excerpts below the results of a search. The texts come from search_texts.js (see book/_ext/search_texts.py). */
(() => {
  "use strict";
  const AROUND = 110; // characters on each side of the word that was found
  const texts = window.pageTexts;
  const out = document.getElementById("search-results");
  const asked = new URLSearchParams(location.search).get("q") || "";
  const words = asked.toLowerCase().match(/[\p{Letter}\p{Number}_]+/gu) || [];
  const sought = words.filter((word) => !stopwords.includes(word)); // of language_data.js
  if (!texts || !out || !sought.length) return;
  // Words were matched by their stems: the endings may differ.
  const stems = sought.map((word) => new Stemmer().stemWord(word)).map((stem, i) => (sought[i].startsWith(stem) ? stem : stem.slice(0, -1)));
  const pattern = new RegExp(`(?<![\\p{Letter}\\p{Number}])(?:${stems.join("|")})[\\p{Letter}\\p{Number}]*`, "giu");

  /* The place in a text around which most of the sought words stand. */
  function best(text) {
    const found = [...text.matchAll(pattern)];
    const near = (hit) => new Set(found.filter((other) => Math.abs(other.index - hit.index) < AROUND)
      .map((other) => stems.findIndex((stem) => other[0].toLowerCase().startsWith(stem)))).size;
    return found.map((hit) => ({ at: hit.index, count: near(hit) })).reduce((a, b) => (b.count > a.count ? b : a), { at: 0, count: 0 });
  }

  function excerpt(link) {
    const url = new URL(link.getAttribute("href"), location.href);
    const page = url.pathname.split("/").slice(-2).join("/").replace(/\.html$/, "");
    const all = texts[page] || [];
    const anchor = decodeURIComponent(url.hash.slice(1));
    const candidates = anchor ? all.filter(([id]) => id === anchor) : all;
    const [text, place] = candidates.map(([, text]) => [text, best(text)])
      .reduce((a, b) => (b[1].count > a[1].count ? b : a), [(candidates[0] || all[0] || ["", ""])[1], { at: 0, count: 0 }]);
    if (!text) return;
    const from = place.at < AROUND ? 0 : text.indexOf(" ", place.at - AROUND) + 1;
    const piece = text.slice(from, from + 2 * AROUND + 20).replace(/\s\S*$/, "");
    const shown = document.createElement("p");
    shown.className = "search-excerpt";
    let end = 0;
    for (const hit of piece.matchAll(pattern)) {
      const mark = document.createElement("mark");
      mark.textContent = hit[0];
      shown.append(piece.slice(end, hit.index), mark);
      end = hit.index + hit[0].length;
    }
    shown.append(piece.slice(end), from + piece.length < text.length ? " …" : "");
    if (from) shown.prepend("… ");
    link.parentElement.append(shown);
  }

  const done = new Set();
  function look() {
    for (const link of out.querySelectorAll("ul.search > li > a"))
      if (!done.has(link)) {
        done.add(link);
        excerpt(link);
      }
  }
  new MutationObserver(look).observe(out, { childList: true, subtree: true });
  look();
})();
