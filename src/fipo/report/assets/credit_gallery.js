// Three groups that the report picked itself, above the browser of all of them.
const GALLERY = {
  amplified: { title: "Most amplified", why: (pick) => `The largest mean f of all stored groups: ${few(pick.mean)}.` },
  attenuated: { title: "Most attenuated", why: (pick) => pick.held == null ? `The smallest mean f: ${few(pick.mean)}.`
    : `None is: the bounds of f hold it at 1. Without them it would be ${few(pick.held)} on average here, the smallest; the colour shows f as it would be.` },
  widest: { title: "Widest spread", why: (pick) => `Of the other groups f differs most from token to token: sd ${few(pick.sd)}.` },
};

// `groupsOf(step)` gives the groups of a step, `open(step, group, member)` shows one below.
async function drawGallery(place, run, groupsOf, open) {
  const groups = await Promise.all(run.gallery.map(async (pick) => (await groupsOf(pick.step))[pick.group]));
  const inLoss = groups.flatMap((group) => group.responses).filter((one) => one.left_out == null);
  place.replaceChildren(...run.gallery.map((pick, i) => {
    const quantity = pick.held == null ? QUANTITIES.influence_weight : QUANTITIES.future_kl;
    const paint = (tokens) => tokens.paint(quantity, scaleOf(inLoss, quantity));
    return galleryCard(pick, groups[i], paint, run, open);
  }));
  if (!run.gallery.length) place.append(made("p", "credit-small", whyNoGallery(run)));
}

function whyNoGallery(run) {
  if (weightless(run.objective)) return "This run's objective has no weights: f is 1 at every token.";
  return "No weight of a stored response has left 1, so there is no group to point at.";
}

function galleryCard(pick, group, paint, run, open) {
  const { title, why } = GALLERY[pick.kind];
  const card = made("article", "credit-card");
  card.append(
    made("h4", "", title),
    made("p", "credit-small", why(pick)),
    made("p", "", `${group.prompt?.trim().slice(-80) ?? ""} → ${group.expected ?? "?"}`),
    made("p", "credit-small", `Step ${pick.step}, ${run.miniBatchName(group.mini_batch ?? 0)}; ${rangeOf("f", pick.low, pick.high)}.`),
  );
  for (const member of pick.members) {
    const response = group.responses[member];
    card.append(made("p", "credit-small", [RESULTS[response.outcome] ?? response.outcome, standing(response)].filter(Boolean).join(": ")));
    const tokens = drawTokens(response, run, null);
    paint(tokens);
    card.append(tokens.place, tokens.more);
  }
  const button = made("button", "", `all ${group.responses.length} responses`);
  button.type = "button";
  button.addEventListener("click", () => open(pick.step, pick.group, pick.members[0]));
  card.append(button);
  return card;
}
