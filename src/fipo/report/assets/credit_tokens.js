// The responses of one group, their tokens coloured by a quantity, with every number in a tooltip. Text from rollouts
// reaches the page through textContent alone.
const AT_ONCE = 1500; // tokens of a response drawn at first, and by each "show more"
const PART = "\ufffd";
const QUANTITIES = {
  influence_weight: { label: "weight f", short: "f", neutral: 1, least: 0.05, of: (r, i) => r.influence_weight[i],
    says: ["attenuated", "amplified"],
    bounds: (o) => o.influence_clip, bound: "influence_clip" },
  future_kl: { label: "FutureKL, of which f is made", short: "FutureKL", neutral: 0, least: 0.05, of: (r, i) => r.future_kl[i],
    says: ["what follows became less likely", "more likely"],
    bounds: (o) => o.influence_clip?.map(Math.log), bound: "log of influence_clip" },
  log_ratio: { label: "log-ratio: how much likelier", short: "log-ratio", neutral: 0, least: 0.05, of: (r, i) => r.log_ratio[i],
    says: ["the token became less likely", "more likely"],
    bounds: (o) => "clip_low" in o ? [Math.log(1 - o.clip_low), Math.log(1 + o.clip_high)] : undefined,
    bound: "log of the ratio's clip" },
  advantage_weight: { label: "advantage x f: the push", short: "advantage x f", neutral: 0, least: 0,
    of: (r, i) => r.influence_weight[i] === null || r.advantage == null ? null : r.advantage * r.influence_weight[i],
    says: ["pushed down", "pushed up"], bounds: () => undefined },
  true_advantage: { label: "true advantage", short: "true advantage", neutral: 0, least: 0, of: (r, i) => r.true_advantage?.[i],
    says: ["it made a wrong end likelier", "a right one likelier"], bounds: () => undefined },
};

const made = (tag, className, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};
const exp = (value) => value == null ? null : Math.exp(value);
const hasCredit = (response) => (response.influence_weight ?? []).length > 0;

// On which side of 0 the true advantage is, where it is known and not 0.
function truthOf(response, i) {
  const truth = response.true_advantage?.[i];
  return !truth ? [] : [truth > 0 ? "truth-high" : "truth-low"];
}

// Those to be seen on the token: at a bound of 1 f does nothing.
function drawnMarks(response, i, objective) {
  const [low, high] = objective.influence_clip ?? [];
  const still = [low === 1 ? "weight_clipped_low" : "", high === 1 ? "weight_clipped_high" : ""];
  return marksOf(response, i, objective).filter((name) => !still.includes(name));
}

function marksOf(response, i, objective) {
  const known = Object.keys(MARKS).filter((name) => !(weightless(objective) && OF_WEIGHTS.includes(name)));
  return known.filter((name) => response.marks?.[name]?.includes(i));
}

// The token's text with its white space to be seen.
function visible(token) {
  if (token === "") return "∅";
  const shown = token.replaceAll("\r", "␍").replaceAll("\t", "⇥").replaceAll("\n", "↵\n");
  return token.trim() === "" ? shown.replaceAll(" ", "·") : shown;
}

// How far from neutral the full colour is: beyond 98 of 100 tokens of the group, so that one outlier hides nothing.
function scaleOf(responses, quantity) {
  const far = responses.filter(hasCredit)
    .flatMap((response) => response.tokens.map((_, i) => quantity.of(response, i)))
    .filter((value) => value != null).map((value) => Math.abs(value - quantity.neutral)).sort((a, b) => a - b);
  const scale = far[Math.floor(0.98 * (far.length - 1))] || far.at(-1) || 0;
  return scale && Math.max(scale, quantity.least); // what hardly moved has hardly any colour
}

// [smallest, largest] of the quantity in these responses, null if none has it.
function extremesOf(responses, quantity) {
  const values = responses.filter(hasCredit).flatMap((response) => response.tokens.map((_, i) => quantity.of(response, i)))
    .filter((value) => value != null);
  return values.length ? values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]) : null;
}

function paint(span, value, quantity, scale) {
  const strength = value == null || !scale ? 0 : Math.round(60 * Math.min(1, Math.abs(value - quantity.neutral) / scale));
  span.classList.toggle("credit-high", strength > 0 && value > quantity.neutral);
  span.classList.toggle("credit-low", strength > 0 && value < quantity.neutral);
  span.style.setProperty("--strength", `${strength}%`);
}

function drawLegend(place, quantity, responses, scale, objective) {
  place.replaceChildren();
  if (!scale) {
    place.append(`${quantity.short} is ${quantity.neutral} at every token here, so nothing is coloured.`);
    return;
  }
  const [least, most] = extremesOf(responses, quantity);
  const bar = made("span", "credit-bar");
  const bounds = quantity.bounds(objective)?.filter(Number.isFinite) ?? [];
  for (const bound of bounds.filter((b) => Math.abs(b - quantity.neutral) <= scale * 1.0001)) {
    const tick = made("i");
    tick.style.left = `calc(${50 + 50 * (bound - quantity.neutral) / scale}% - 1px)`;
    bar.append(tick);
  }
  const [low, high] = [-scale, scale].map((end) => few(quantity.neutral + end));
  const left = least < quantity.neutral ? `${quantity.says[0]} · ${low} or less` : `${quantity.says[0]}: none`;
  const right = most > quantity.neutral ? `${high} or more · ${quantity.says[1]}` : `none: ${quantity.says[1]}`;
  place.append(made("span", "", left), bar, made("span", "", right));
  const marked = bounds.length ? `; ${quantity.bound} is ${bounds.map(few).join(" to ")}` : "";
  place.append(made("span", "credit-small", `${rangeOf(quantity.short, least, most, quantity.neutral)} in this group; no colour: ${quantity.neutral}${marked}`));
}

function heading(response, group, run) {
  const said = [RESULTS[response.outcome] ?? response.outcome];
  if (response.answer != null) said.push(`answer ${response.answer}`);
  if (response.reward != null) said.push(`reward ${few(response.reward)}`);
  if (response.tokens?.length) said.push(`${response.tokens.length} tokens`);
  if (response.truncated) said.push("reached the length limit");
  if (response.reason != null) said.push(response.reason);
  const lines = [made("h4", "", said.filter(Boolean).join(", "))];
  const weights = hasCredit(response) && !weightless(run.objective) ? extremesOf([response], QUANTITIES.influence_weight) : null;
  const moved = weights && group.mini_batch !== 0 ? rangeOf("f", ...weights) : null;
  const credit = [standing(response), moved].filter(Boolean).join("; ");
  if (credit) lines.push(made("div", "credit-small", credit));
  if (group.mini_batch != null) {
    const first = group.mini_batch === 0 && !weightless(run.objective) ? ": f is 1 here by construction" : "";
    lines.push(made("div", "credit-small", run.miniBatchName(group.mini_batch) + first));
  }
  return lines;
}

function drawResponse(response, group, run) {
  const box = made("article", "credit-response");
  box.append(...heading(response, group, run));
  const reason = LEFT_OUT[response.left_out]?.(run.objective, response) ?? response.left_out;
  if (reason) {
    box.append(made("p", "credit-reason", reason));
    box.classList.add("credit-untrained");
  }
  if (!response.tokens?.length) {
    box.append(made("div", "credit-tokens", response.response));
    box.append(made("div", "credit-small", "No tokens recorded: text only."));
    return { box, reach: () => null, paint: () => {} };
  }
  const tokens = drawTokens(response, run, reason);
  box.append(tokens.place, tokens.more);
  return { box, reach: tokens.reach, paint: tokens.paint };
}

// The tokens of a response; what draws one of them, and what colours them.
function drawTokens(response, run, reason) {
  const place = made("div", "credit-tokens");
  place.setAttribute("role", "group");
  place.setAttribute("aria-label", "tokens; arrow keys move from one to the next");
  const more = made("button");
  more.type = "button";
  const credited = hasCredit(response);
  const spans = [];
  let painter = () => {};
  const drawUntil = (end) => {
    for (let i = spans.length; i < Math.min(end, response.tokens.length); i++) {
      const span = made("span", ["credit-token", ...drawnMarks(response, i, run.objective), ...truthOf(response, i)].join(" "), visible(response.tokens[i]));
      span.tabIndex = i ? -1 : 0;
      span.credit = { response, i, objective: run.objective, reason: credited ? null : reason ?? "No credit recorded." };
      spans.push(span);
      painter(span, i);
      place.append(span);
    }
    more.hidden = spans.length === response.tokens.length;
    more.textContent = `show more of ${response.tokens.length} tokens`;
  };
  more.addEventListener("click", () => drawUntil(spans.length + AT_ONCE));
  drawUntil(AT_ONCE);
  return {
    place, more,
    reach: (i) => { drawUntil(i + 1); return spans[i]; },
    paint: (quantity, scale) => {
      painter = credited ? (span, i) => paint(span, quantity.of(response, i), quantity, scale) : () => {};
      spans.forEach((span, i) => painter(span, i));
    },
  };
}

// Draws the group, the chosen response first; returns what recolours it and what reaches a token.
function drawGroup(place, group, member, run) {
  const drawn = group.responses.map((response) => drawResponse(response, group, run));
  drawn[member].box.setAttribute("aria-current", "true");
  place.replaceChildren(drawn[member].box, ...drawn.filter((_, m) => m !== member).map((one) => one.box));
  return {
    colour: (name, legend) => {
      const quantity = QUANTITIES[name];
      const inLoss = group.responses.filter((response) => response.left_out == null);
      const scale = scaleOf(inLoss, quantity);
      drawLegend(legend, quantity, inLoss, scale, run.objective);
      drawn.forEach((one) => one.paint(quantity, scale));
    },
    reach: (m, i) => drawn[m].reach(i),
  };
}

function fillTip(tip, { response, i, objective, reason }) {
  const of = (name) => response[name]?.[i];
  const [logRatio, kl, weight] = [of("log_ratio"), of("future_kl"), of("influence_weight")];
  const values = { ratio: few(exp(logRatio)), raw: few(exp(kl)) };
  const rows = [["token", JSON.stringify(response.tokens[i])], ["position", `${i + 1} of ${response.tokens.length}`]];
  if (!reason) {
    rows.push(["log-ratio", few(logRatio)], ["ratio", values.ratio], ["FutureKL", few(kl)],
      ["exp(FutureKL)", values.raw], ["weight f", few(weight)]);
    if (response.advantage != null) {
      rows.push(["advantage", few(response.advantage)],
        ["advantage x f", few(weight == null ? null : response.advantage * weight)]);
    }
  }
  if (of("true_advantage") != null) rows.push(["true advantage", few(of("true_advantage"))]);
  const body = made("tbody");
  for (const [name, value] of rows) {
    const row = made("tr");
    row.append(made("td", "", name), made("td", "", value));
    body.append(row);
  }
  const table = made("table");
  table.append(body);
  const better = standing(response);
  const words = [...(better ? [`Its response is ${better}.`] : []), ...inWords(response, i, objective)];
  const said = reason ? [reason] : [...words, ...marksOf(response, i, objective).map((name) => MARKS[name](objective, values))];
  if (response.tokens[i].includes(PART)) said.push(`${PART} is a part of a character whose bytes lie in several tokens.`);
  tip.replaceChildren(...said.map((sentence) => made("p", "", sentence)), table);
}

// Where a tooltip of this size covers nothing of the response: under it, above or beside it. Where it finds no room,
// as beside a long one, in the half of the window that the token is not in.
function placeOf(token, text, { width, height }) {
  const [right, bottom] = [innerWidth - width - 8, innerHeight - height - 8];
  const x = Math.max(8, Math.min(token.left, right)), y = Math.max(8, Math.min(token.top, bottom));
  const places = [[x, text.bottom + 6], [x, text.top - height - 6], [text.right + 6, y], [text.left - width - 6, y]];
  const free = places.find(([left, top]) => left >= 8 && left <= right && top >= 8 && top <= bottom);
  return free ?? [x, token.top > innerHeight / 2 ? 8 : bottom];
}

// Hover, tap and keyboard focus show the tooltip; arrow keys move along the tokens; Escape hides it.
function explain(places, tip) {
  const put = (span) => {
    const text = span.parentElement.getBoundingClientRect();
    const [left, top] = placeOf(span.getClientRects()[0], text, tip.getBoundingClientRect());
    tip.style.left = `${left}px`;
    tip.style.top = `${top}px`;
  };
  let explained;
  const show = (span) => {
    explained = span;
    fillTip(tip, span.credit);
    span.setAttribute("aria-describedby", tip.id);
    tip.hidden = false;
    put(span);
  };
  const hide = () => { tip.hidden = true; };
  const follow = () => { explained?.matches(":hover, :focus") && !tip.hidden ? put(explained) : hide(); };
  const tokenOf = (event) => event.target.closest?.(".credit-token");
  for (const place of places) {
    place.addEventListener("mousemove", (event) => { // mouseover also fires where the page moves under a resting mouse
      const span = tokenOf(event);
      if (!span) hide();
      else if (span !== explained || tip.hidden) show(span);
    });
    place.addEventListener("mouseleave", () => { if (!explained?.matches(":focus")) hide(); });
    place.addEventListener("focusin", (event) => { const span = tokenOf(event); if (span) show(span); });
    place.addEventListener("focusout", hide);
    place.addEventListener("click", (event) => tokenOf(event)?.focus());
    place.addEventListener("keydown", (event) => {
      const span = tokenOf(event);
      const next = { ArrowRight: span?.nextElementSibling, ArrowLeft: span?.previousElementSibling }[event.key];
      if (event.key === "Escape") hide();
      if (next) { event.preventDefault(); next.focus(); }
    });
  }
  addEventListener("scroll", follow, { capture: true, passive: true });
}
