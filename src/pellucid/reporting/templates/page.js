"use strict";
// The case browser. Everything it draws stands in the page: maps as places in a colour table, thumbnails as JPEG.
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const { about, cases } = read("case-data");
  const byIndex = new Map(cases.map((c) => [c.i, c]));
  const root = document.documentElement;
  const $ = (id) => document.getElementById(id);
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const colours = Object.fromEntries(Object.entries(about.tables).map(([name, text]) => [name, bytes(text)]));

  // The plain pictures of the first cases serve the script as well: no picture is in the page twice.
  for (const article of document.querySelectorAll("article.case")) {
    const c = byIndex.get(Number(article.dataset.index));
    if (c) { c.img = article.querySelector("img.photo").src; c.card = article; }
  }

  function element(tag, settings = {}, ...children) {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(settings)) {
      if (key === "text") made.textContent = value; else made.setAttribute(key, value);
    }
    made.append(...children.filter(Boolean));
    return made;
  }

  // Values are interpolated first and coloured second, with pixel centres at half: as the plain pictures are.
  function canvas([height, width, text], table, side) {
    const places = bytes(text), lookup = colours[table];
    const made = element("canvas", { class: "map", width: side, height: side, "aria-hidden": "true" });
    const context = made.getContext("2d"), picture = context.createImageData(side, side);
    const at = (pixel, cells) => {
      const place = Math.min(Math.max((pixel + 0.5) * cells / side - 0.5, 0), cells - 1), low = Math.floor(place);
      return [low, Math.min(low + 1, cells - 1), place - low];
    };
    for (let y = 0; y < side; y++) {
      const [y0, y1, v] = at(y, height);
      for (let x = 0; x < side; x++) {
        const [x0, x1, u] = at(x, width);
        const above = places[y0 * width + x0] * (1 - u) + places[y0 * width + x1] * u;
        const below = places[y1 * width + x0] * (1 - u) + places[y1 * width + x1] * u;
        const colour = 3 * Math.round(above * (1 - v) + below * v), target = 4 * (y * side + x);
        for (let k = 0; k < 3; k++) picture.data[target + k] = lookup[colour + k];
        picture.data[target + 3] = 255;
      }
    }
    context.putImageData(picture, 0, 0);
    return made;
  }

  function outline(c) {
    if (!c.mask) return null;
    const space = "http://www.w3.org/2000/svg", svg = document.createElementNS(space, "svg"), path = document.createElementNS(space, "path");
    svg.setAttribute("class", "outline");
    svg.setAttribute("viewBox", `0 0 ${c.side} ${c.side}`);
    svg.setAttribute("aria-hidden", "true");
    path.setAttribute("d", c.mask);
    svg.append(path);
    return svg;
  }

  function frame(c, map, table, label, side) {
    if (!map) return element("div", { class: "frame dead", role: "img", "aria-label": `${label}: no signal` }, element("span", { text: "no signal" }));
    return element("div", { class: "frame", role: "img", "aria-label": label }, canvas(map, table, side), outline(c));
  }

  const best = (p) => p.reduce((top, value, k) => (value > p[top] ? k : top), 0);
  const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
  const number = (c) => String(c.i).padStart(4, "0");

  function answer(c, role) {
    const p = c.p[role], k = best(p), said = k === c.y ? "right" : "wrong";
    return element("span", { class: `answer ${said}`, text: `${about.classes[k]} ${p[k].toFixed(2)} ` }, element("span", { class: "mark", text: said }));
  }

  function scale(low, high, table) {
    const signed = table === "RdBu_r";
    return element("span", { class: "scale" },
      element("span", { class: "end", text: low ? low.toFixed(1) : "0" }), element("span", { class: `bar bar-${table}` }),
      element("span", { class: "end", text: (signed ? "+" : "") + high.toFixed(1) }), element("span", { class: "unit", text: "× mean" }));
  }

  function foot(row, role) {
    if (!(role in row.alike)) return `grid ${row.grid[role]}`;
    if (about.methods[row.m].why) return about.methods[row.m].why;
    return row.grid[role] + (row.alike[role] == null ? ", no likeness" : `, likeness ${row.alike[role].toFixed(2)}`);
  }

  function body(c, side) {
    const right = element("div", { class: "right" });
    const heads = element("div", { class: "trio heads" });
    for (const role of about.roles) heads.append(element("p", {}, element("b", { text: capital(role) }), answer(c, role)));
    right.append(heads);
    for (const row of c.rows) {
      const method = about.methods[row.m], trio = element("div", { class: "trio" });
      for (const role of about.roles.filter((name) => name in row.maps)) {
        const label = `${method.name} map of the ${role} over the image, grid ${row.grid[role]}`;
        trio.append(element("div", {}, frame(c, row.maps[role], method.table, label, side), element("p", { class: "foot", text: foot(row, role) })));
      }
      const head = element("p", { class: "row-head" }, element("span", { text: method.name }), scale(row.lo, row.hi, method.table));
      right.append(element("div", { class: "method", "data-method": row.m }, head, trio));
    }
    const picture = element("div", { class: "frame" }, element("img", { class: "photo", src: c.img, alt: `Test image ${c.id}, class ${about.classes[c.y]}` }), outline(c));
    return element("div", { class: "body" }, element("div", { class: "left" }, picture, element("p", { class: "name", text: c.id })), right);
  }

  function card(c) {
    if (c.card) return c.card;
    const title = element("h4", {}, element("a", { class: "open", href: `#case-${number(c)}`, text: `Case ${number(c)}` }), " ",
      element("span", { class: "truth", text: about.classes[c.y] }), " ", element("span", { class: "who", text: about.who[c.who] }));
    c.card = element("article", { class: "case", id: `case-${number(c)}`, "data-index": c.i }, title, body(c, 64));
    c.card.style.setProperty("--img", `url(${c.img})`);
    return c.card;
  }

  // Sort and filter
  const method = () => $("method")?.value || "";
  const leadOf = (c) => { const row = c.rows.find((r) => r.m === (method() || about.lead)); return row && row.alike.student != null ? row.alike.student : Infinity; };
  const student = about.roles.includes("student") ? "student" : about.roles[0];
  const keys = {
    disagreement: leadOf,
    confidence: (c) => Math.max(...c.p[student]),
    error: (c) => c.p[student][c.y],
  };
  const few = 8; // so that what stands below the cases isn't out of reach; without a script all plain ones show
  let order = cases, shown = few;

  function arrange() {
    const named = about.methods[method() || about.lead];
    if (named) $("sort").options[0].textContent = `disagreement of ${named.name} maps${method() && cases.length < about.n ? ", of the cases held here" : ""}`;
    const by = $("sort").value, kind = $("class").value, who = $("who").value;
    order = cases.filter((c) => (kind === "" || c.y === Number(kind)) && (who === "" || c.who === who));
    order.sort(by === "name" ? (a, b) => a.id.localeCompare(b.id, undefined, { numeric: true }) || a.i - b.i : (a, b) => (keys[by](a) === keys[by](b) ? a.i - b.i : keys[by](a) - keys[by](b)));
    draw();
  }

  function onlyMethod(within) {
    for (const row of within.querySelectorAll(".method")) row.hidden = method() !== "" && row.dataset.method !== method();
  }

  function draw() {
    const now = order.slice(0, shown);
    $("grid").replaceChildren(...now.map(card));
    onlyMethod($("grid"));
    $("count").textContent = order.length ? `${now.length} of ${order.length} ${order.length === 1 ? "case" : "cases"} shown` : "No case is like that.";
    $("more").hidden = now.length >= order.length;
  }

  for (const id of ["sort", "class", "who", "method"]) $(id)?.addEventListener("change", () => { shown = few; arrange(); });
  $("more").addEventListener("click", () => {
    const first = order[shown];
    shown += about.plain;
    draw();
    card(first).querySelector("a.open").focus();
  });
  for (const slider of document.querySelectorAll("input.opacity")) {
    slider.addEventListener("input", () => {
      root.style.setProperty("--opacity", slider.value / 100);
      for (const other of document.querySelectorAll("input.opacity")) other.value = slider.value;
    });
  }
  $("grid").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const links = [...$("grid").querySelectorAll("a.open")], here = links.indexOf(document.activeElement);
    if (!step || here < 0) return;
    event.preventDefault();
    links[Math.min(Math.max(here + step, 0), links.length - 1)].focus();
  });

  // One case, large
  const large = $("large");
  let open = null;

  function probabilities(c) {
    const list = element("dl", { class: "facts-list" });
    const fact = (name, text) => list.append(element("dt", { text: name }), element("dd", { text }));
    fact("truth", about.classes[c.y]);
    if (c.s) fact("subject", c.s);
    fact("right", about.who[c.who]);
    for (const role of about.roles) {
      const ranked = c.p[role].map((p, k) => [p, k]).sort((a, b) => b[0] - a[0]).slice(0, 3);
      fact(role, ranked.map(([p, k]) => `${about.classes[k]} ${p.toFixed(2)}`).join(", "));
    }
    return list;
  }

  function show(c) {
    open = c;
    $("large-title").textContent = `Case ${number(c)}: ${about.classes[c.y]}`;
    const drawn = body(c, 256);
    drawn.append(probabilities(c));
    const content = [drawn];
    if (c.layers.length) {
      const layers = element("div", { class: "layers" });
      for (const [name, map, grid] of c.layers) {
        layers.append(element("figure", {}, frame(c, map, "cividis", `Average feature map of the student's layer ${name}`, 128), element("figcaption", { text: `${name}, ${grid}` })));
      }
      content.push(element("h3", { text: "Every layer of the student (average feature map)" }), layers, element("p", { class: "row-head" }, scale(0, c.layer_hi, "cividis")));
    }
    $("large-body").replaceChildren(...content);
    onlyMethod($("large-body"));
    $("large-body").style.setProperty("--img", `url(${c.img})`);
    const place = order.indexOf(c);
    $("previous").disabled = place <= 0;
    $("next").disabled = place < 0 || place >= order.length - 1;
    if (!large.open) large.showModal();
    large.scrollTop = 0;
    $("large-title").focus();
  }

  function walk(step) {
    const next = order[order.indexOf(open) + step];
    if (!next) return;
    history.replaceState(null, "", `#case-${number(next)}`);
    show(next);
  }

  const addressed = () => /^#case-(\d+)$/.exec(location.hash)?.[1];

  function follow() {
    const asked = addressed();
    if (!asked) { if (large.open) large.close(); return; }
    const c = byIndex.get(Number(asked));
    if (c) show(c);
    else $("count").textContent = `Case ${asked} is not in this report.`;
  }

  large.addEventListener("keydown", (event) => {
    if (event.target.matches("input")) return;
    if (event.key === "ArrowRight") { event.preventDefault(); walk(1); }
    if (event.key === "ArrowLeft") { event.preventDefault(); walk(-1); }
  });
  $("previous").addEventListener("click", () => walk(-1));
  $("next").addEventListener("click", () => walk(1));
  $("close").addEventListener("click", () => large.close());
  large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
  large.addEventListener("close", () => {
    const last = open;
    // The event comes a moment after the closing: an address given since is not this case's to take away.
    if (last && Number(addressed()) === last.i) history.replaceState(null, "", location.pathname + location.search);
    open = null;
    if (last && last.card && last.card.isConnected) last.card.querySelector("a.open").focus({ preventScroll: false });
  });
  window.addEventListener("hashchange", follow);

  arrange();
  follow();
})();
