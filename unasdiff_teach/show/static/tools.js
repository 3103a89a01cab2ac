/* The listening player and the scrubber. They grow out of what the library wrote (unasdiff_teach/show), and work from
   file:// with no request to anywhere: sounds are audio elements, spectrograms were computed beforehand. */
(() => {
  "use strict";
  if (window.pageTools) return window.pageTools.upgrade();

  const TRIALS = 10; // of a blind test: fixed beforehand, since who may stop when it looks good always succeeds
  const LAST_BLOCK = 0.15; // seconds, at 8 kHz
  const NUDGE = 0.1; // seconds by which an arrow key moves the position
  const TOGETHER = 0.05; // seconds by which positions may differ: a jump that short is not noticed, and a seek makes a gap
  let count = 0; // of upgraded tools; radio buttons need names of their own
  let sounding = null; // the one deck that plays

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes))
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value != null) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  /* Audio elements at one common position, of which only `current` is heard. The others of its `group` run along muted, so
     that a switch makes no gap; an element outside the group starts where the old one stopped. */
  class Deck {
    constructor(current, group = [current]) {
      Object.assign(this, { current, group, playing: false, loop: true, listeners: [] });
      group.forEach((audio) => {
        audio.muted = audio !== current;
        this.watch(audio);
      });
    }
    watch(audio) {
      audio.addEventListener("error", () => {
        const again = audio.sought && audio.error.code !== MediaError.MEDIA_ERR_SRC_NOT_SUPPORTED;
        audio.sought = false;
        if (again) audio.load(); // a failed seek: from the start again
        if (again && this.playing && this.group.includes(audio)) this.start(audio);
        if (!again && audio === this.current) this.pause(); // a missing or damaged file
      });
      audio.addEventListener("ended", () => {
        if (audio !== this.current || !this.playing) return;
        this.seek(0);
        this.loop ? this.play() : this.pause();
      });
    }
    changed() { this.listeners.forEach((listener) => listener()); }
    get time() { return this.current.currentTime; }
    /* Chromium cannot seek in the last block of a FLAC file, 1152 samples. */
    place(audio, time) {
      const goal = Math.max(0, Math.min(time, (audio.duration || Infinity) - LAST_BLOCK));
      if (Math.abs(audio.currentTime - goal) <= TOGETHER && !audio.ended) return;
      audio.sought = true;
      audio.currentTime = goal;
    }
    seek(time) {
      this.group.forEach((audio) => this.place(audio, time));
      this.changed();
    }
    start(audio) {
      audio.muted = audio !== this.current;
      audio.play().catch((error) => { // AbortError: paused again before it began
        if (error.name === "NotSupportedError" && audio === this.current) this.pause();
      });
    }
    play() {
      if (sounding && sounding !== this) sounding.pause();
      sounding = this;
      this.playing = true;
      this.seek(this.time);
      this.group.forEach((audio) => this.start(audio));
      this.changed();
    }
    pause() {
      this.playing = false;
      this.group.forEach((audio) => audio.pause());
      this.changed();
    }
    toggle() { this.playing ? this.pause() : this.play(); }
    turnTo(audio) {
      const old = this.current, time = old.currentTime;
      if (audio === old) return;
      this.current = audio;
      if (Math.abs(audio.currentTime - time) > TOGETHER) this.place(audio, time);
      if (this.group.includes(audio)) old.muted = true;
      else {
        this.group = [audio];
        old.pause();
      }
      audio.muted = false;
      if (this.playing && audio.paused) this.start(audio);
      this.changed();
    }
  }

  /* Button, position and loop; `pictures` get a moving cursor and can be clicked. `length` in seconds. */
  function transport(deck, length, pictures) {
    const cursors = pictures.map((picture) => {
      const cursor = make("span", { class: "tool-cursor" });
      picture.append(cursor);
      picture.addEventListener("click", (event) => {
        const box = picture.getBoundingClientRect();
        deck.seek((length() * (event.clientX - box.left)) / box.width);
      });
      return cursor;
    });
    /* A thousandth of the sound, the slider's own step, is shorter than what `place` takes for the same position. */
    function nudge(event) {
      const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 }[event.key];
      if (!steps || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      deck.seek(deck.time + steps * NUDGE);
    }
    const button = make("button", { type: "button", class: "tool-play", onclick: () => deck.toggle() });
    const position = make("input", { type: "range", min: 0, max: 1000, value: 0, "aria-label": "position",
      oninput: () => deck.seek((position.value / 1000) * length()), onkeydown: nudge });
    const clock = make("span", { class: "tool-clock" });
    const loop = make("input", { type: "checkbox", onchange: () => { deck.loop = loop.checked; } });
    loop.checked = deck.loop;
    let drawing = 0;
    function draw() {
      const share = Math.min(deck.time / length(), 1) || 0;
      const text = `${deck.time.toFixed(1)} of ${length().toFixed(1)} s`;
      for (const cursor of cursors) cursor.style.left = `${100 * share}%`;
      position.value = 1000 * share;
      position.setAttribute("aria-valuetext", text);
      clock.textContent = text;
      button.textContent = deck.playing ? "❚❚ Pause" : "▶ Play";
      cancelAnimationFrame(drawing);
      if (deck.playing) drawing = requestAnimationFrame(draw);
    }
    deck.listeners.push(draw);
    deck.group.forEach((audio) => audio.addEventListener("loadedmetadata", draw));
    draw();
    const bar = make("div", { class: "tool-bar" }, button, position, clock, make("label", {}, loop, " repeat"));
    bar.repeat = () => loop.click();
    return bar;
  }

  /* Keys of a tool, while the focus is inside. A key that an element needs for itself stays its own. None goes on to what
     is around: in JupyterLab, A and B insert a cell, X cuts one and two D delete one. Ctrl+S and its like do go on. */
  function keys(root, actions) {
    root.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      event.stopPropagation();
      const action = actions[event.key.toLowerCase()];
      const own = event.key === " " ? "button, select, summary, input[type=checkbox]" : "select";
      if (!action || event.target.closest(own)) return;
      event.preventDefault();
      action();
    });
  }

  const numbered = (choose, n) => Object.fromEntries([...Array(Math.min(n, 9)).keys()].map((i) => [`${i + 1}`, () => choose(i)]));

  function choices(names, details, choose) {
    const name = `tool-${count}`;
    const radios = names.map((_, i) => make("input", { type: "radio", name, onchange: () => choose(i) }));
    const labels = names.map((text, i) => make("label", {}, radios[i],
      make("kbd", { "aria-hidden": "true" }, `${i + 1}`), ` ${text} `, make("small", {}, details[i])));
    radios[0].checked = true;
    return { labels, pick(i) { radios[i].checked = true; radios[i].focus(); choose(i); } };
  }

  const corner = (place, text) => make("span", { class: `tool-axis ${place}`, "aria-hidden": "true" }, text);

  /* A gain of 0 dB in words. (The library's own are stored in every notebook.) */
  const plain = (node) => {
    if (node.data === "One gain of 0 dB for all.") node.data = "All at their own level: nothing was made louder or softer.";
    return node;
  };
  const noteOf = (source) => make("p", { class: "tool-note" }, ...[...source.childNodes].map((node) => plain(node.cloneNode(true))));

  // ------------------------------------------------------------------------------------------------ player

  function player(table) {
    count += 1;
    const rows = [...table.tBodies[0].rows];
    const names = rows.map((row) => row.cells[0].textContent);
    const sounds = rows.map((row) => row.querySelector("audio"));
    const images = rows.map((row) => row.querySelector("img")).filter(Boolean);
    const deck = new Deck(sounds[0], sounds);
    const length = () => Math.max(...sounds.map((audio) => audio.duration || 0)) || 1;
    const tracks = choices(names, rows.map((row) => row.lastElementChild.textContent.replace("dB", "dB RMS")), (i) => {
      deck.turnTo(sounds[i]);
      images.forEach((image, k) => { image.hidden = k !== i; });
    });
    const picture = make("div", { class: "tool-picture" }, ...images);
    images.forEach((image, k) => { image.hidden = k > 0; });
    picture.append(corner("top", `${table.dataset.kilohertz} kHz`), corner("bottom", "0"));
    const bar = transport(deck, length, images.length ? [picture] : []);
    const chosen = make("div", { class: "tool-tracks", role: "radiogroup", "aria-label": "which sound is heard" }, ...tracks.labels);
    const open = make("div", {}, chosen, ...(images.length ? [picture] : []));
    const root = make("div", { class: "page-tool", role: "group", tabindex: -1, "aria-label": `Listening player: ${names.join(", ")}` },
      open, bar, noteOf(table.caption),
      make("p", { class: "tool-keys" }, `Keys: 1 to ${Math.min(names.length, 9)} switch, space plays and stops, L repeats, 0 goes back to the start.`));
    const warm = () => sounds.forEach((audio) => { audio.preload = "auto"; });
    for (const event of ["pointerenter", "focusin"]) root.addEventListener(event, warm, { once: true });
    const pick = (i) => { if (!open.hidden) tracks.pick(i); }; // hidden during a blind test
    const test = names.length > 1 && blindTest(deck, names, sounds, open, () => tracks.pick(0));
    if (test) root.append(test.box);
    keys(root, { " ": () => deck.toggle(), l: bar.repeat, 0: () => deck.seek(0), ...test.keys, ...numbered(pick, names.length) });
    Object.assign(root, { deck });
    table.before(root);
    table.hidden = true; // its audio elements go on sounding
  }

  /* Chance to be right at least `right` times in n trials by guessing. */
  function chance(right, n) {
    let sum = 0, term = 1; // binomial coefficient n over k
    for (let k = 0; k <= n; k++) {
      if (k >= right) sum += term;
      term = (term * (n - k)) / (k + 1);
    }
    return sum / 2 ** n;
  }

  function blindTest(deck, names, sounds, open, restore) {
    const select = (label, first) => {
      const list = make("select", { "aria-label": `${label} is` }, ...names.map((name, i) => make("option", { value: i }, name)));
      list.value = first;
      return list;
    };
    const pair = [select("A", 0), select("B", 1)];
    const status = make("p", { role: "status", class: "tool-status" });
    const listen = {}, trial = make("div", { class: "tool-trial", hidden: true });
    let x = 0, done = 0, right = 0, active = false;

    function hear(letter) {
      const which = { A: 0, B: 1, X: x }[letter];
      for (const [name, button] of Object.entries(listen)) button.setAttribute("aria-pressed", name === letter);
      deck.turnTo(sounds[pair[which].value]);
      if (!deck.playing) deck.play();
    }
    function next() {
      x = Math.random() < 0.5 ? 0 : 1;
      status.textContent = `Trial ${done + 1} of ${TRIALS}: is X the same as A or as B?`;
      hear("X");
    }
    function finish(text) {
      active = false;
      open.hidden = false;
      trial.hidden = true;
      pair.forEach((list) => { list.disabled = false; });
      start.textContent = "Start";
      deck.pause();
      restore();
      status.textContent = text;
      start.focus();
    }
    function answer(guess) {
      right += guess === x;
      done += 1;
      if (done < TRIALS) return next();
      const p = chance(right, TRIALS);
      const verdict = p <= 0.05 ? "Guessing seldom does that: you hear a difference." : "Guessing does that too: no difference was shown.";
      finish(`${right} of ${TRIALS} right. By guessing alone, so many or more with probability p = ${p.toPrecision(2)}. ${verdict}`);
    }
    function begin() {
      if (active) return finish("Stopped: no result.");
      if (pair[0].value === pair[1].value) {
        status.textContent = "A and B are the same sound; choose two.";
        return;
      }
      active = true;
      open.hidden = true; // its picture would tell
      trial.hidden = false;
      pair.forEach((list) => { list.disabled = true; });
      start.textContent = "Stop";
      done = right = 0;
      deck.seek(0);
      next();
      listen.X.focus();
    }
    const start = make("button", { type: "button", onclick: begin }, "Start");
    for (const letter of "ABX")
      listen[letter] = make("button", { type: "button", "aria-pressed": "false", onclick: () => hear(letter) }, `Hear ${letter}`);
    trial.append(...Object.values(listen),
      make("button", { type: "button", class: "tool-answer", onclick: () => answer(0) }, "X is A"),
      make("button", { type: "button", class: "tool-answer", onclick: () => answer(1) }, "X is B"));
    const box = make("details", { class: "tool-abx" }, make("summary", {}, "Blind test: can you hear the difference?"),
      make("p", {}, `X is one of two sounds, drawn by chance in each of ${TRIALS} trials. The keys A, B and X switch; the score comes at the end.`),
      make("div", { class: "tool-bar" }, make("label", {}, "A ", pair[0]), make("label", {}, "B ", pair[1]), start), trial, status);
    const heard = (letter) => () => { if (active) hear(letter); };
    return { box, keys: { a: heard("A"), b: heard("B"), x: heard("X") } };
  }

  // ---------------------------------------------------------------------------------------------- scrubber

  function scrubber(source) {
    count += 1;
    const { names, t, seconds, kilohertz } = JSON.parse(source.dataset.run);
    const scores = source.dataset.siSdr && JSON.parse(source.dataset.siSdr);
    const sheet = source.querySelector("img");
    let step = t.length - 1, heard = 0;
    const file = () => new URL(`${heard + 1}-${String(step + 1).padStart(2, "0")}.flac`, sheet.src);
    const deck = new Deck(new Audio(file()));
    const sounds = { [file()]: deck.current };
    function sound() {
      const name = file();
      if (!sounds[name]) deck.watch((sounds[name] = new Audio(name)));
      return sounds[name];
    }
    const pictures = names.map(() => make("div", { class: "tool-picture", role: "img" },
      corner("top", `${kilohertz} kHz`), corner("bottom", "0")));
    const sources = choices(names, names.map(() => ""), (k) => { heard = k; show(); });
    const slider = make("input", { type: "range", min: 0, max: t.length - 1, value: step, "aria-label": "step of the separation",
      oninput: () => { step = Number(slider.value); show(); } });
    const told = make("output", { class: "tool-clock" });
    function show() {
      const place = `step ${step + 1} of ${t.length}, t = ${t[step]}`;
      slider.value = step;
      slider.setAttribute("aria-valuetext", place);
      told.textContent = place;
      pictures.forEach((picture, k) => {
        const part = (i, n) => (n > 1 ? `${(100 * i) / (n - 1)}%` : "0");
        picture.style.backgroundPosition = `${part(step, t.length)} ${part(k, names.length)}`;
        const score = scores ? `SI-SDR ${scores[step][k].toFixed(1).replace("-", "−")} dB` : "";
        picture.setAttribute("aria-label", `Spectrogram of the estimate of ${names[k]} at ${place}. ${score}`);
        sources.labels[k].querySelector("small").textContent = score;
      });
      deck.turnTo(sound());
    }
    for (const picture of pictures) {
      picture.style.backgroundImage = `url("${sheet.src}")`;
      picture.style.backgroundSize = `${100 * t.length}% ${100 * names.length}%`;
    }
    const bar = transport(deck, () => seconds, pictures);
    const by = (change) => () => { step = Math.min(Math.max(step + change, 0), t.length - 1); show(); };
    const root = make("div", { class: "page-tool", role: "group", tabindex: -1, "aria-label": `Scrubber through a separation: ${names.join(", ")}` },
      make("div", { class: "tool-bar" }, make("label", {}, "noise ", slider, " signal"), told),
      make("div", { class: "tool-sources", role: "radiogroup", "aria-label": "which source is heard" },
        ...pictures.map((picture, k) => make("div", {}, sources.labels[k], picture))),
      bar, noteOf(source.lastElementChild),
      make("p", { class: "tool-keys" }, `Keys: comma and point step back and forth, 1 to ${names.length} choose the source, space plays and stops, L repeats.`));
    keys(root, { " ": () => deck.toggle(), l: bar.repeat, 0: () => deck.seek(0), ",": by(-1), ".": by(1), ...numbered(sources.pick, names.length) });
    Object.assign(root, { deck });
    show();
    source.before(root);
    source.hidden = true;
  }

  // ------------------------------------------------------------------------------------------------- start

  function upgrade() {
    if (document.readyState === "loading") return; // a row may not have its sound yet; the deferred script comes later
    for (const [selector, build] of [["table.sound-player", player], [".sound-scrubber", scrubber]])
      for (const source of document.querySelectorAll(selector))
        if (!source.hidden) build(source);
  }
  window.pageTools = { upgrade, chance };

  // The built pages link the style themselves, and defer this script; JupyterLab loads it alone.
  const here = document.currentScript.src;
  if (!document.querySelector('link[href*="tools.css"]'))
    document.head.append(make("link", { rel: "stylesheet", href: here.replace(/tools\.js.*/, "tools.css") }));
  upgrade();
  // JupyterLab may attach an output to the page after the pictures in it have arrived.
  if (!document.currentScript.defer) new MutationObserver(upgrade).observe(document.body, { childList: true, subtree: true });
})();
