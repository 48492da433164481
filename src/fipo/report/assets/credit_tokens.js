// The responses of one group, their tokens coloured by a quantity, with every number in a tooltip. Text from rollouts
// reaches the page through textContent alone.
const AT_ONCE = 1500; // tokens of a response drawn at first, and by each "show more"
const PART = "\ufffd";
const QUANTITIES = {
  influence_weight: { label: "influence weight f", neutral: 1, of: (r, i) => r.influence_weight[i],
    says: ["f below 1: attenuated", "f above 1: amplified"],
    bounds: (o) => o.influence_clip, bound: "influence_clip" },
  future_kl: { label: "future_kl", neutral: 0, of: (r, i) => r.future_kl[i],
    says: ["what follows became less likely", "more likely"],
    bounds: (o) => o.influence_clip?.map(Math.log), bound: "log of influence_clip" },
  log_ratio: { label: "log_ratio", neutral: 0, of: (r, i) => r.log_ratio[i],
    says: ["the token became less likely", "more likely"],
    bounds: (o) => "clip_low" in o ? [Math.log(1 - o.clip_low), Math.log(1 + o.clip_high)] : undefined,
    bound: "log of the ratio's clip" },
  advantage_weight: { label: "advantage x f", neutral: 0,
    of: (r, i) => r.influence_weight[i] === null || r.advantage == null ? null : r.advantage * r.influence_weight[i],
    says: ["pushed down", "pushed up"], bounds: () => undefined },
  true_advantage: { label: "true advantage", neutral: 0, of: (r, i) => r.true_advantage?.[i],
    says: ["it made a wrong end likelier", "a right one likelier"], bounds: () => undefined },
};

const made = (tag, className, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};
const exact = (value) => value == null ? "not finite" : String(value);
const derived = (value) => value == null || !Number.isFinite(value) ? "not finite" : String(Number(value.toPrecision(6)));
const exp = (value) => value == null ? null : Math.exp(value);
const hasCredit = (response) => (response.influence_weight ?? []).length > 0;

function knob(objective, name) {
  return name in objective ? `${name} = ${objective[name]}` : name;
}

const MARKS = {
  clipped_high: (o, v) => `Clipped: the advantage is positive and the ratio ${v.ratio} is above 1 + ${knob(o, "clip_high")}. The token gives no gradient.`,
  clipped_low: (o, v) => `Clipped: the advantage is negative and the ratio ${v.ratio} is below 1 - ${knob(o, "clip_low")}. The token gives no gradient.`,
  dual_clipped: (o, v) => `Dual-clipped: the advantage is negative and the ratio ${v.ratio} is above ${knob(o, "dual_clip")}. Its loss is capped and it gives no gradient.`,
  not_summed: (o, v) => `Not summed: the ratio ${v.ratio} is above ${knob(o, "dual_clip")}. No future_kl counts this token's log_ratio.`,
  weight_clipped_high: (o, v) => `Weight at its bound: exp(future_kl) = ${v.raw} is above influence_clip${o.influence_clip ? ` (${o.influence_clip.join(", ")})` : ""}.`,
  weight_clipped_low: (o, v) => `Weight at its bound: exp(future_kl) = ${v.raw} is below influence_clip${o.influence_clip ? ` (${o.influence_clip.join(", ")})` : ""}.`,
  safety_capped: (o, v) => `Safety rule: the advantage is negative and the ratio ${v.ratio} is above ${knob(o, "safety_threshold")}. f is held between ${knob(o, "safety_floor")} and 1.`,
};
const LEFT_OUT = {
  masked: (o, r) => r.truncated
    ? "Masked: it reached the length limit, so none of its tokens is trained on and none has credit."
    : "Masked: none of its tokens is trained on and none has credit.",
  filtered: (o) => `Filtered: more dual-clipped tokens than ${knob(o, "max_dual_clipped_tokens")}, so the response left the loss. Its weights changed nothing.`,
  skipped: () => "Skipped: this mini-batch's update was not finite and was not made. Its weights changed nothing.",
  unknown: () => "Not in the loss: filtered, or its update was skipped. This older run does not say which.",
};

// On which side of 0 the true advantage is, where it is known and not 0.
function truthOf(response, i) {
  const truth = response.true_advantage?.[i];
  return !truth ? [] : [truth > 0 ? "truth-high" : "truth-low"];
}

function marksOf(response, i) {
  return Object.keys(MARKS).filter((name) => response.marks?.[name]?.includes(i));
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
  return far[Math.floor(0.98 * (far.length - 1))] || far.at(-1) || 0;
}

function paint(span, value, quantity, scale) {
  const strength = value == null || !scale ? 0 : Math.round(60 * Math.min(1, Math.abs(value - quantity.neutral) / scale));
  span.classList.toggle("credit-high", strength > 0 && value > quantity.neutral);
  span.classList.toggle("credit-low", strength > 0 && value < quantity.neutral);
  span.style.setProperty("--strength", `${strength}%`);
}

function drawLegend(place, quantity, scale, objective) {
  place.replaceChildren();
  if (!scale) {
    place.append(`${quantity.label} is ${quantity.neutral} at every token here, so nothing is coloured.`);
    return;
  }
  const bar = made("span", "credit-bar");
  const bounds = quantity.bounds(objective)?.filter(Number.isFinite) ?? [];
  for (const bound of bounds.filter((b) => Math.abs(b - quantity.neutral) <= scale * 1.0001)) {
    const tick = made("i");
    tick.style.left = `calc(${50 + 50 * (bound - quantity.neutral) / scale}% - 1px)`;
    bar.append(tick);
  }
  const [low, high] = [-scale, scale].map((end) => Number((quantity.neutral + end).toPrecision(3)));
  place.append(made("span", "", `${quantity.says[0]} · ${low} or less`), bar, made("span", "", `${high} or more · ${quantity.says[1]}`));
  const marked = bounds.length ? `; ${quantity.bound} is ${bounds.map((b) => Number(b.toPrecision(3))).join(" to ")}` : "";
  place.append(made("span", "credit-small", `no colour: ${quantity.neutral}${marked}`));
}

function heading(response, group, run) {
  const said = [response.outcome?.replace("_", " ")];
  if (response.reward != null) said.push(`reward ${derived(response.reward)}`);
  if (response.advantage != null) said.push(`advantage ${derived(response.advantage)}`);
  if (response.tokens?.length) said.push(`${response.tokens.length} tokens`);
  if (response.truncated) said.push("reached the length limit");
  if (response.answer != null) said.push(`answer ${response.answer}`);
  if (response.reason != null) said.push(response.reason);
  const lines = [made("h4", "", said.filter(Boolean).join(", "))];
  if (group.mini_batch != null) {
    const first = group.mini_batch === 0 ? ": f is 1 here by construction" : "";
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
  const place = made("div", "credit-tokens");
  place.setAttribute("role", "group");
  place.setAttribute("aria-label", "tokens; arrow keys move from one to the next");
  const more = made("button");
  more.type = "button";
  box.append(place, more);
  const credited = hasCredit(response);
  const spans = [];
  let painter = () => {};
  const drawUntil = (end) => {
    for (let i = spans.length; i < Math.min(end, response.tokens.length); i++) {
      const span = made("span", ["credit-token", ...marksOf(response, i), ...truthOf(response, i)].join(" "), visible(response.tokens[i]));
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
    box,
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
      const scale = scaleOf(group.responses.filter((response) => response.left_out == null), quantity);
      drawLegend(legend, quantity, scale, run.objective);
      drawn.forEach((one) => one.paint(quantity, scale));
    },
    reach: (m, i) => drawn[m].reach(i),
  };
}

function fillTip(tip, { response, i, objective, reason }) {
  const of = (name) => response[name]?.[i];
  const [logRatio, kl, weight] = [of("log_ratio"), of("future_kl"), of("influence_weight")];
  const values = { ratio: derived(exp(logRatio)), raw: derived(exp(kl)) };
  const rows = [["token", JSON.stringify(response.tokens[i])], ["position", `${i + 1} of ${response.tokens.length}`]];
  if (!reason) {
    rows.push(["log_ratio", exact(logRatio)], ["ratio", values.ratio], ["future_kl", exact(kl)],
      ["exp(future_kl)", values.raw], ["influence weight f", exact(weight)]);
    if (response.advantage != null) {
      rows.push(["advantage", derived(response.advantage)],
        ["advantage x f", derived(weight == null ? null : response.advantage * weight)]);
    }
  }
  if (of("true_advantage") != null) rows.push(["true advantage", derived(of("true_advantage"))]);
  const body = made("tbody");
  for (const [name, value] of rows) {
    const row = made("tr");
    row.append(made("td", "", name), made("td", "", value));
    body.append(row);
  }
  const table = made("table");
  table.append(body);
  const said = reason ? [reason] : marksOf(response, i).map((name) => MARKS[name](objective, values));
  if (response.tokens[i].includes(PART)) said.push(`${PART} is a part of a character whose bytes lie in several tokens.`);
  tip.replaceChildren(table, ...said.map((sentence) => made("p", "", sentence)));
}

// Hover, tap and keyboard focus show the tooltip; arrow keys move along the tokens; Escape hides it.
function explain(place, tip) {
  const put = (span) => {
    const at = span.getClientRects()[0], own = tip.getBoundingClientRect();
    const below = at.bottom + 6 + own.height < innerHeight;
    tip.style.left = `${Math.max(8, Math.min(at.left, innerWidth - own.width - 8))}px`;
    tip.style.top = `${Math.max(8, below ? at.bottom + 6 : at.top - own.height - 6)}px`;
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
  place.addEventListener("mousemove", (event) => { // mouseover also fires where the page moves under a resting mouse
    const span = tokenOf(event);
    if (!span) hide();
    else if (span !== explained || tip.hidden) show(span);
  });
  place.addEventListener("mouseleave", () => { if (!explained?.matches(":focus")) hide(); });
  place.addEventListener("focusin", (event) => { const span = tokenOf(event); if (span) show(span); });
  place.addEventListener("focusout", hide);
  place.addEventListener("click", (event) => tokenOf(event)?.focus());
  addEventListener("scroll", follow, { capture: true, passive: true });
  place.addEventListener("keydown", (event) => {
    const span = tokenOf(event);
    const next = { ArrowRight: span?.nextElementSibling, ArrowLeft: span?.previousElementSibling }[event.key];
    if (event.key === "Escape") hide();
    if (next) { event.preventDefault(); next.focus(); }
  });
}
