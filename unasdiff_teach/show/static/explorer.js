/* The explorer of schedules and guidance strengths, computed in the page: the twin of unasdiff_teach/show/explorer.py.
   Tests compare its curves with the library's. */
(() => {
  "use strict";
  const RULES = { DPS: ["--curve", "12 4 3 4"], DSG: ["--dsg", "9 4"], Hybrid: ["--hybrid", "none"] };
  const MINUS = "−";
  const round = Math.fround;

  /* NoiseSchedule.linear and the rules' strengths. The library keeps beta and alpha_bar in sequential float32, as published
     priors were trained; so does this. */
  function curves({ T, beta_min, beta_max, sigma_scale, s_floor, sharpness }, dps) {
    const out = { t: [], beta: [], alpha_bar: [], log_snr: [], sigma: [], DPS: [], DSG: [], Hybrid: [] };
    const floor = round(sharpness * round(s_floor)); // a single-precision scalar in torch
    let before = 1;
    for (let i = 0; i < T; i++) {
      const beta = round(i === T - 1 ? beta_max : i * ((beta_max - beta_min) / (T - 1)) + beta_min);
      const alpha_bar = round(before * round(1 - beta));
      const sigma = Math.sqrt((beta * (1 - before)) / (1 - alpha_bar));
      const scaled = sharpness * sigma_scale * sigma;
      out.t.push(i + 1);
      out.beta.push(beta);
      out.alpha_bar.push(alpha_bar);
      out.log_snr.push(Math.log(alpha_bar / (1 - alpha_bar)));
      out.sigma.push(sigma);
      out.DPS.push(dps);
      out.DSG.push(sigma_scale * sigma);
      out.Hybrid.push((Math.max(scaled, floor) + Math.log1p(Math.exp(-Math.abs(scaled - floor)))) / sharpness);
      before = alpha_bar;
    }
    return out;
  }

  /* What to read off the curves, in the words of the library's _facts. */
  function facts({ T, t_star, s_floor, sigma_scale }, now) {
    const decibels = (step) => ((10 / Math.LN10) * now.log_snr[step - 1]).toFixed(1).replace("-", MINUS);
    const above = now.sigma.findIndex((sigma) => sigma_scale * sigma > s_floor) + 1;
    const floor = above ? `The floor rules below step ${above}.` : "The floor rules at all steps.";
    return `Signal-to-noise ratio of a signal of RMS 1: ${decibels(t_star)} dB at t* = ${t_star} (vertical line), ` +
      `${decibels(T)} dB at T = ${T}. ${floor} Dotted grey: where the sliders started.`;
  }

  function ticks(low, high) {
    const raw = (high - low || Math.abs(high) || 1) / 4;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999);
    const found = [];
    for (let i = Math.floor(low / step + 1e-9); i <= Math.ceil(high / step - 1e-9); i++) found.push(Number((i * step).toPrecision(6)));
    return found.length > 1 ? found : [found[0], found[0] + step];
  }

  const SUPERSCRIPT = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴" };
  const text = (x, y, content, rest = "") => `<text x="${x}" y="${y.toFixed(1)}" ${rest}>${content}</text>`;
  const path = (d, rest) => `<path d="${d}" ${rest}/>`;

  /* One plot in box [left, top, width, height]; `names` of curves, `range` of the vertical axis if it is fixed. */
  function panel([left, top, width, height], title, names, { now, then, last, mark, range, log, legend }) {
    const all = names.flatMap((name) => [...now[name], ...then[name]]);
    const yTicks = log ? [-4, -3, -2, -1, 0, 1].map((power) => 10 ** power) : ticks(...(range || [Math.min(...all), Math.max(...all)]));
    const scale = log ? Math.log10 : Number;
    const lowest = yTicks[0], highest = yTicks[yTicks.length - 1], bottom = top + height;
    const across = (x) => left + (width * (x - 1)) / (last - 1);
    const up = (y) => bottom - (height * (scale(Math.min(Math.max(y, lowest), highest)) - scale(lowest))) / (scale(highest) - scale(lowest));
    const curve = (x, y, rest) => {
      const step = Math.max(1, (x.length - 1) / 199);
      let d = "M";
      for (let place = 0; place < x.length - 0.5; place += step) d += `${across(x[Math.round(place)]).toFixed(1)} ${up(y[Math.round(place)]).toFixed(1)} `;
      return path(d, rest);
    };
    let svg = text(left, top - 9, title, 'font-weight="bold"');
    for (const tick of yTicks) {
      const label = log ? "10" + [...String(Math.round(Math.log10(tick)))].map((sign) => SUPERSCRIPT[sign]).join("") : String(tick).replace("-", MINUS);
      svg += path(`M${left} ${up(tick).toFixed(1)}h${width}`, 'class="grid"') + text(left - 6, up(tick) + 6, label, 'text-anchor="end"');
    }
    for (const tick of ticks(1, last))
      if (tick >= 1 && tick <= last && Number.isInteger(tick))
        svg += path(`M${across(tick).toFixed(1)} ${bottom}v5`, 'class="axis"') + text(across(tick).toFixed(1), bottom + 22, tick, 'text-anchor="middle"');
    svg += path(`M${across(mark).toFixed(1)} ${top}v${height}`, 'stroke-width="1.5" stroke-dasharray="2 3"');
    for (const name of names) svg += curve(then.t, then[name], 'class="then" stroke-dasharray="2 4"');
    names.forEach((name, place) => {
      const [colour, dash] = RULES[name] || ["--curve", "none"];
      const look = `class="now" style="stroke:var(${colour})" stroke-dasharray="${dash}"`;
      svg += curve(now.t, now[name], `${look} data-curve="${name}"`);
      const start = left + width - 108 * (names.length - place);
      if (legend) svg += path(`M${start} ${top - 15}h32`, look) + text(start + 38, top - 9, name);
    });
    return svg + path(`M${left} ${top}v${height}h${width}`, 'class="axis"');
  }

  function draw(values, now, then, labels) {
    const last = Math.max(now.t.length, then.t.length);
    const shared = { now, then, last, mark: values.t_star };
    const settings = Object.entries(labels).map(([name, label]) => `${label} ${Number(values[name].toPrecision(3))}`).join(", ");
    return `<svg viewBox="0 0 640 720" role="img" aria-label="Curves of the noise schedule and the guidance strength over the diffusion step t, for ${settings}.">` +
      panel([65, 35, 550, 230], "γ(t) without √N / ‖g‖", Object.keys(RULES), { ...shared, log: true, legend: true }) +
      panel([65, 345, 225, 120], "σ(t), noise added", ["sigma"], shared) +
      panel([390, 345, 225, 120], "β(t), power replaced", ["beta"], shared) +
      panel([65, 535, 225, 120], "log-SNR / nat", ["log_snr"], shared) +
      panel([390, 535, 225, 120], "ᾱ(t), power left", ["alpha_bar"], { ...shared, range: [0, 1] }) +
      text(320, 710, "diffusion step t", 'text-anchor="middle"') + "</svg>";
  }

  function upgrade(source) {
    const { start, controls, stops, dps } = JSON.parse(source.dataset.explorer);
    const values = { ...start }, then = curves(start, dps);
    const labels = Object.fromEntries(Object.entries(controls).map(([name, [, , label]]) => [name, label]));
    const root = document.createElement("div");
    root.className = "page-tool explorer-tool";
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", "Explorer of noise schedule and guidance strength");
    root.innerHTML = '<div class="explorer-sliders"></div><div class="explorer-picture"></div><p role="status"></p>' +
      '<p><button type="button">Back to the start</button></p>';
    const [sliders, picture, told] = root.children;
    const inputs = {};
    for (const [name, [low, high, label]] of Object.entries(controls)) {
      const row = document.createElement("label");
      row.innerHTML = `<span>${label}</span><input type="range" name="${name}"><output></output>`;
      const [, input, output] = row.children;
      const grid = stops[name]; // values between which a slider moves; whole numbers have none
      const [from, to] = grid ? [0, grid.length - 1] : [low, high];
      Object.assign(input, { min: from, max: to, step: 1 });
      input.addEventListener("input", () => {
        values[name] = grid ? grid[input.value] : Number(input.value);
        redraw();
      });
      inputs[name] = () => {
        if (name === "t_star") input.max = values.T;
        input.value = grid ? grid.indexOf(values[name]) : values[name];
        output.textContent = Number(values[name].toPrecision(6));
        input.setAttribute("aria-valuetext", output.textContent);
      };
      sliders.append(row);
    }
    function redraw() {
      values.t_star = Math.min(values.t_star, values.T);
      const now = curves(values, dps);
      Object.values(inputs).forEach((show) => show());
      picture.innerHTML = draw(values, now, then, labels);
      told.textContent = facts(values, now);
      Object.assign(root, { values, curves: now });
    }
    root.querySelector("button").addEventListener("click", () => {
      Object.assign(values, start);
      redraw();
    });
    redraw();
    source.replaceWith(root);
  }

  window.gammaExplorer = { curves };
  document.querySelectorAll("[data-explorer]").forEach(upgrade); // the script is deferred
})();
