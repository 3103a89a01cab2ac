/* The plane of two sources and their sum, computed in the page: the twin of unasdiff_teach/show/two_sources.py and plane.py.
   The drawing is the library's; this moves its paths. Tests compare its numbers and its paths with the library's. */
(() => {
  "use strict";
  const sum = (values) => values.reduce((a, b) => a + b, 0);
  const mean = (values) => sum(values) / values.length;
  const rms = (values) => Math.sqrt(mean(values.map((v) => v * v)));

  function uniform(counter) {
    let h = counter >>> 0;
    h = Math.imul(h ^ (h >>> 16), 0x7feb352d);
    h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
    return (((h ^ (h >>> 16)) >>> 0) + 0.5) / 4294967296;
  }

  /* What the library's plane_numbers computes, for the world of one drawing. */
  function numbersOf({ y, std, weights, means, N, T, knots, quantiles }) {
    const curves = (sigma_scale, s_floor) =>
      window.gammaExplorer.curves({ T, beta_min: 1e-4, beta_max: 0.02, sigma_scale, s_floor, sharpness: 1000 }, 1);
    const { alpha_bar, beta, sigma } = curves(1, 1);
    const numbered = [...Array(N).keys()];
    const grid = (f) => [0, 1].map((k) => numbered.map((n) => f(k, n))); // [2][N]
    const noise = (stream, seed) => grid((k, n) => {
      const from = seed * 2 ** 20 + 4 * N * stream + 2 * (k * N + n);
      return Math.sqrt(-2 * Math.log(uniform(from))) * Math.cos(2 * Math.PI * uniform(from + 1));
    });

    /* Tweedie's estimate of source k at x, and its derivative there. */
    function tweedie(x, k, a) {
      const v = a * std * std + 1 - a, [d0, d1] = means[k].map((m) => x - Math.sqrt(a) * m);
      const odds = Math.log(weights[k][1] / weights[k][0]) + (d0 * d0 - d1 * d1) / (2 * v);
      const r0 = 1 / (1 + Math.exp(odds)), r1 = 1 / (1 + Math.exp(-odds)); // how likely x is from each hill
      const score = -(r0 * d0 + r1 * d1) / v, slope = -1 / v + r0 * r1 * ((d0 - d1) / v) ** 2;
      return [(x + (1 - a) * score) / Math.sqrt(a), (1 + (1 - a) * slope) / Math.sqrt(a)];
    }

    function noised({ t, seed }) {
      const a = t ? alpha_bar[t - 1] : 1, from = seed * 2 ** 20 + 4 * N * (T + 1), z = noise(T + 2, seed), e = noise(T, seed);
      const hill = grid((k, n) => (uniform(from + k * N + n) > weights[k][0] ? 1 : 0));
      const x0 = grid((k, n) => means[k][hill[k][n]] + std * z[k][n]);
      const x = grid((k, n) => Math.sqrt(a) * x0[k][n] + Math.sqrt(1 - a) * e[k][n]);
      const guess = grid((k, n) => tweedie(x[k][n], k, a)[0]);
      const away = (k, n) => means[k].map((m) => Math.abs(guess[k][n] - m));
      const right = (k, n) => away(k, n)[hill[k][n]] === Math.min(...away(k, n)), lost = (k, n) => Math.min(...away(k, n)) > 3 * std;
      return {
        x, to_guess: grid((k, n) => guess[k][n] - x[k][n]), error: rms(grid((k, n) => guess[k][n] - x0[k][n]).flat()),
        own: mean(numbered.map((n) => +(right(0, n) && right(1, n)))), lost: mean(numbered.map((n) => +(lost(0, n) || lost(1, n)))),
      };
    }

    /* gamma of the settings' rule at step t, for a gradient of this norm. */
    function ruleOf(values) {
      const { DSG, Hybrid } = curves(values.gamma, values.floor), root = Math.sqrt(N);
      return {
        DPS: () => values.gamma,
        DSG: (t, norm) => {
          const radius = DSG[t] * root, direction = radius / (norm + 1e-8);
          return (radius * direction) / (direction * norm + 1e-8);
        },
        Hybrid: (t, norm) => (Hybrid[t] * root) / (norm + 1e-8),
        drawn: (t, norm) => {
          const right = Math.max(1, knots.findIndex((knot) => knot >= t + 1)), [a, b] = [knots[right - 1], knots[right]];
          const [low, high] = [a, b].map((knot) => Math.log(values[`at_${knot}`]));
          return (Math.exp(low + ((high - low) * (t + 1 - a)) / (b - a)) * root) / (norm + 1e-8);
        },
      }[values.rule];
    }

    /* Algorithm 1: a record for each step, and one of where it lands. */
    function run(values) {
      const { view, t_star, seed } = values, guided = view === "run", rule = ruleOf(values);
      const first = (guided && values.start === "init_step" ? t_star : T) - 1, e = noise(T, seed), a = alpha_bar[t_star - 1];
      const mixed = (k, n) => Math.sqrt(a) * y + Math.sqrt(1 - a) * e[0][n], zero = grid(() => 0), records = [];
      let x = guided && values.start !== "noise" ? grid(mixed) : e;
      for (let t = first; t >= 0; t--) {
        const before = t ? alpha_bar[t - 1] : 1, after = alpha_bar[t], z = noise(t, seed), now = x;
        const w0 = (beta[t] * Math.sqrt(before)) / (1 - after), wx = ((1 - before) * Math.sqrt(1 - beta[t])) / (1 - after);
        const seen = grid((k, n) => tweedie(now[k][n], k, after));
        const rest = numbered.map((n) => y - seen[0][n][0] - seen[1][n][0]), loss = Math.sqrt(sum(rest.map((r) => r * r)));
        const pull = grid((k, n) => (rest[n] / loss) * seen[k][n][1]);
        const gamma = pull.map((row) => (guided ? rule(t, Math.sqrt(sum(row.map((g) => g * g)))) : 0));
        const g_prior = grid((k, n) => w0 * seen[k][n][0] + wx * now[k][n] - now[k][n]), g_cond = grid((k, n) => gamma[k] * pull[k][n]);
        const bound = pull.map((row, k) => -sum(row.map((g, n) => g * g_prior[k][n])) / sum(row.map((g) => g * g)));
        records.push({ x, g_prior, g_cond, gamma, bound });
        x = grid((k, n) => now[k][n] + g_prior[k][n] + g_cond[k][n] + (t ? sigma[t] * z[k][n] : 0));
      }
      return [...records, { x, g_prior: zero, g_cond: zero, gamma: [0, 0], bound: [0, 0] }];
    }

    let last = "", records; // a run is kept while only t moves
    function landed(values) {
      const key = JSON.stringify({ ...values, t: 0 });
      if (key !== last) [last, records] = [key, run(values)];
      const steps = records.length - 1, now = records[Math.max(steps - values.t, 0)], [x1, x2] = records[steps].x;
      const on_line = x1.map((value, n) => (value + y - x2[n]) / 2), sorted = [...on_line].sort((a, b) => a - b);
      const nearest = x1.map((value, n) => 2 * (value > mean(means[0])) + (x2[n] > mean(means[1])));
      return {
        ...now, on_line,
        against: mean(now.g_prior[0].map((p, n) => +(p * now.g_cond[0][n] + now.g_prior[1][n] * now.g_cond[1][n] < 0))),
        size: records.slice(0, -1).map(({ g_cond }) => rms(g_cond.flat())).reverse(),
        left: mean(on_line.map((x) => +(x < 0))),
        off: rms(x1.map((value, n) => value + x2[n] - y)),
        w1: mean(sorted.map((x, i) => Math.abs(x - quantiles[i]))),
        shares: [0, 1, 2, 3].map((hill) => mean(nearest.map((one) => +(one === hill)))),
      };
    }

    return (values) => {
      const a = values.t ? alpha_bar[values.t - 1] : 1, noisy = ["forward", "tweedie"].includes(values.view);
      const hills = [[0, 0, 1, 1].map((j) => Math.sqrt(a) * means[0][j]), [0, 1, 0, 1].map((j) => Math.sqrt(a) * means[1][j])];
      return { ...(noisy ? noised : landed)(values), hills, spread: Math.sqrt(a * std * std + 1 - a) };
    };
  }

  // ------------------------------------------------------------------------------------- drawing
  const fixed = (value) => value.toFixed(1);

  /* What the library's _paths computes. */
  function pathsOf({ LEFT, TOP, SIDE, REACH, EVERY, LAND, SIZE, arrows }, T) {
    const inside = (value) => (Math.min(Math.max(value, -REACH), REACH) * SIDE) / (2 * REACH);
    const place = (x) => x[0].map((value, n) => [LEFT + SIDE / 2 + inside(value), TOP + SIDE / 2 - inside(x[1][n])]);
    const dots = (x) => place(x).map(([a, b]) => `M${fixed(a)} ${fixed(b)}h0`).join("");
    function pointers(x, move, factor) {
      const ends = place(x.map((row, k) => row.map((value, n) => value + factor * move[k][n])));
      return place(x).map(([a, b], n) => {
        const [c, d] = ends[n], length = Math.hypot(c - a, d - b);
        if (n % EVERY || length < 1) return "";
        const u = (Math.min(6, length / 2) * (c - a)) / length, v = (Math.min(6, length / 2) * (d - b)) / length;
        const end = `L${fixed(c)} ${fixed(d)}`;
        return `M${fixed(a)} ${fixed(b)}${end}m${fixed(-u - v / 2)} ${fixed(u / 2 - v)}${end}l${fixed(v / 2 - u)} ${fixed(-v - u / 2)}`;
      }).join("");
    }
    return (values, now) => {
      const out = { hills: dots(now.hills), dots: dots(now.x) };
      for (const [name, factor] of Object.entries(arrows)) out[name] = pointers(now.x, now[name], factor);
      if (values.view !== "run") return out;
      const counts = Array(40).fill(0);
      let [left, top, width, height] = LAND;
      now.on_line.forEach((x) => { counts[Math.floor((x + 2) * 10)] += 1; });
      out.bars = counts.slice(0, 40).map((count, i) => {
        const tall = fixed(Math.min(count / now.on_line.length / 0.3, 1) * height);
        return count ? `M${fixed(left + (width * i) / 40)} ${top + height}v-${tall}h${fixed(width / 40)}v${tall}z` : "";
      }).join("");
      [left, top, width, height] = SIZE;
      const along = (i) => fixed(left + (width * i) / (T - 1));
      const up = (size) => fixed(top - (height / 4) * Math.log10(Math.min(Math.max(size, 1e-4), 1)));
      out.size = "M" + now.size.map((size, i) => `${along(i)} ${up(size)}`).join(" ");
      out.mark = `M${along(Math.max(values.t, 1) - 1)} ${top}v${height}`;
      return out;
    };
  }

  function upgrade(source) {
    const { start, controls, world, frame, words } = JSON.parse(source.dataset.plane), values = { ...start };
    const numbers = numbersOf(world), paths = pathsOf(frame, world.T), svg = source.querySelector("svg");
    const root = document.createElement("div"), part = (name) => svg.querySelector(`[data-part=${name}]`);
    root.className = "page-tool plane-tool";
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", "Plane of two sources and their sum");
    root.innerHTML = '<div class="explorer-sliders"></div><div class="tool-drawing"></div><p role="status"></p>' +
      '<p><button type="button">Back to the start</button></p>';
    const [fields, drawing, told, buttons] = root.children;
    drawing.append(svg);
    const shows = Object.entries(controls).map(([name, [label, options]]) => {
      const row = document.createElement("label"), choice = typeof options[0][1] === "string";
      row.innerHTML = `<span>${label}</span>` + (choice ? `<select name="${name}"></select>` : `<input type="range" name="${name}"><output></output>`);
      const [, input, output] = row.children;
      if (choice) options.forEach(([text, value]) => input.add(new Option(text, value)));
      else Object.assign(input, { min: 0, max: options.length - 1, step: 1 });
      input.addEventListener("input", () => set(name, choice ? input.value : options[input.value][1]));
      fields.append(row);
      return () => {
        input.value = choice ? values[name] : options.findIndex(([, value]) => value === values[name]);
        if (choice) return;
        output.textContent = options[input.value][0];
        input.setAttribute("aria-valuetext", output.textContent);
      };
    });

    /* What to read off the picture, in the library's words. */
    function facts(now) {
      const write = (name, [factor, digits]) => [now[name]].flat().map((v) => (factor * v).toFixed(digits).replace("-", "−")).join(" / ");
      const text = words.facts + (start.view === "run" && values.t ? words.step : "");
      return text.replace(/{(\w+)}/g, (_, name) => (name === "t" ? values.t : write(name, words.formats[name])));
    }
    function redraw() {
      const now = numbers(values), drawn = paths(values, now);
      shows.forEach((show) => show());
      for (const [name, d] of Object.entries(drawn)) part(name).setAttribute("d", d);
      part("hills").setAttribute("stroke-width", fixed((2 * frame.SIDE * now.spread) / frame.REACH));
      part("size")?.setAttribute("stroke", frame.colours[values.rule]);
      part("bars")?.setAttribute("fill", frame.colours[values.rule]);
      told.textContent = facts(now);
      svg.setAttribute("aria-label", `${words.description} ${told.textContent}`);
      Object.assign(root, { values: { ...values }, numbers: now, paths: drawn });
    }
    function set(name, value) {
      values[name] = value;
      redraw();
    }
    buttons.firstChild.addEventListener("click", () => {
      Object.assign(values, start);
      redraw();
    });

    if (controls.t && "g_prior" in frame.arrows) { // a run can be watched
      const play = document.createElement("button");
      Object.assign(play, { type: "button", textContent: "Run from the start" });
      let timer = 0;
      play.addEventListener("click", () => {
        clearInterval(timer);
        set("t", root.numbers.size.length);
        timer = setInterval(() => {
          set("t", Math.max(0, values.t - 2));
          if (!values.t) clearInterval(timer);
        }, 40);
      });
      root.addEventListener("input", () => clearInterval(timer));
      buttons.prepend(play, " ");
    }
    if (controls.at_1) { // the curve itself can be drawn
      const [left, top, width, height] = frame.SIZE;
      const nearest = (wanted, list) => list.reduce((a, b) => (Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a));
      const pull = (event) => {
        const box = svg.getBoundingClientRect(), unit = box.width / svg.viewBox.baseVal.width;
        const x = (event.clientX - box.left) / unit - left, y = (event.clientY - box.top) / unit - top;
        if (!event.buttons || values.rule !== "drawn" || x < -8 || x > width + 8 || y < 0 || y > height) return;
        const name = `at_${nearest(1 + (x / width) * (world.T - 1), world.knots)}`;
        const stops = controls[name][1].map(([, value]) => value), logs = stops.map(Math.log10);
        set(name, stops[logs.indexOf(nearest((-4 * y) / height, logs))]);
      };
      ["pointerdown", "pointermove"].forEach((kind) => svg.addEventListener(kind, pull));
      svg.style.touchAction = "pan-x";
    }
    redraw();
    source.replaceWith(root);
  }

  addEventListener("DOMContentLoaded", () => document.querySelectorAll("[data-plane]").forEach(upgrade)); // explorer.js has run then
})();
