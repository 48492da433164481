// Numbers with few digits, and what they say in words.
// Three digits behind the point at most, and one digit of what is smaller.
function few(value) {
  if (value == null || !Number.isFinite(value)) return "not finite";
  const size = Math.abs(value);
  if (size > 0 && size < 0.001) return size < 1e-6 ? "about 0" : String(Number(value.toPrecision(1)));
  return String(Number(value.toFixed(size < 10 ? 3 : 1)));
}
const signed = (value) => value > 0 ? `+${few(value)}` : few(value);
const weightless = (objective) => objective.influence_clip != null && objective.influence_clip[0] === objective.influence_clip[1];
const RESULTS = { correct: "right", wrong: "wrong", no_answer: "no answer" };

// `f from 0.97 to 1.04: hardly moved`
function rangeOf(name, low, high, neutral = 1) {
  const [from, to] = [low, high].map((value) => value.toFixed(2));
  const moved = Math.max(Math.abs(low - neutral), Math.abs(high - neutral));
  const said = moved < 0.005 ? ": not moved" : moved <= 0.05 ? ": hardly moved" : "";
  return from === to ? `${name} is ${from}${said}` : `${name} from ${from} to ${to}${said}`;
}

// What the advantage of a response does to all of its tokens.
function standing(response) {
  const advantage = response.advantage;
  if (advantage == null) return null;
  if (Math.abs(advantage) < 0.0005) return "no better and no worse than the others, no push (advantage 0)";
  return advantage > 0 ? `better than the others, pushed up (advantage ${signed(advantage)})`
    : `worse than the others, pushed down (advantage ${few(advantage)})`;
}

// A token's log-ratio, FutureKL and weight in words.
function inWords(response, i, objective) {
  const [x, kl, f] = ["log_ratio", "future_kl", "influence_weight"].map((name) => response[name]?.[i]);
  const percent = (ratio) => `${Number((100 * Math.abs(ratio - 1)).toPrecision(2))}%`;
  const likelier = (ratio) => ratio > 2 ? `${few(ratio)} times as likely` : `${percent(ratio)} ${ratio > 1 ? "likelier" : "less likely"}`;
  const still = (value) => Math.abs(value) < 0.0005;
  const said = [];
  if (x != null) {
    said.push(still(x) ? "Since it was sampled this token has become neither likelier nor less likely."
      : `Since it was sampled, this step's earlier updates have made this token ${likelier(Math.exp(x))}.`);
  }
  if (kl != null && x != null && !weightless(objective)) {
    said.push(still(kl) ? "Taken together, it and what follows are as likely as before."
      : `Taken together, it and what follows (the near counts more) became ${kl > 0 ? "likelier" : "less likely"}.`);
  }
  if (f == null) return said;
  if (weightless(objective)) said.push("This objective has no weights: f is 1.");
  else if (still(f - 1)) said.push("So FIPO leaves its push as it is: f is 1.");
  else said.push(`So FIPO makes its push ${percent(f)} ${f > 1 ? "stronger" : "weaker"}: f is ${few(f)}.`);
  return said;
}

function knob(objective, name) {
  return name in objective ? `${name} = ${objective[name]}` : name;
}

const MARKS = {
  clipped_high: (o, v) => `Clipped: the advantage is positive and the ratio ${v.ratio} is above 1 + ${knob(o, "clip_high")}. The token gives no gradient.`,
  clipped_low: (o, v) => `Clipped: the advantage is negative and the ratio ${v.ratio} is below 1 - ${knob(o, "clip_low")}. The token gives no gradient.`,
  dual_clipped: (o, v) => `Dual-clipped: the advantage is negative and the ratio ${v.ratio} is above ${knob(o, "dual_clip")}. Its loss is capped and it gives no gradient.`,
  not_summed: (o, v) => `Not summed: the ratio ${v.ratio} is above ${knob(o, "dual_clip")}. No FutureKL counts this token's log-ratio.`,
  weight_clipped_high: (o, v) => `Weight at its bound: exp(FutureKL) = ${v.raw} is above influence_clip${o.influence_clip ? ` (${o.influence_clip.join(", ")})` : ""}.`,
  weight_clipped_low: (o, v) => `Weight at its bound: exp(FutureKL) = ${v.raw} is below influence_clip${o.influence_clip ? ` (${o.influence_clip.join(", ")})` : ""}.`,
  safety_capped: (o, v) => `Safety rule: the advantage is negative and the ratio ${v.ratio} is above ${knob(o, "safety_threshold")}. f is held between ${knob(o, "safety_floor")} and 1.`,
};
const OF_WEIGHTS = ["not_summed", "weight_clipped_high", "weight_clipped_low", "safety_capped"];
const LEFT_OUT = {
  masked: (o, r) => r.truncated
    ? "Masked: it reached the length limit, so none of its tokens is trained on and none has credit."
    : "Masked: none of its tokens is trained on and none has credit.",
  filtered: (o) => `Filtered: more dual-clipped tokens than ${knob(o, "max_dual_clipped_tokens")}, so the response left the loss. Its weights changed nothing.`,
  skipped: () => "Skipped: this mini-batch's update was not finite and was not made. Its weights changed nothing.",
  unknown: () => "Not in the loss: filtered, or its update was skipped. This older run does not say which.",
};
