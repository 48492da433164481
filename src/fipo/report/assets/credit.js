// The browser of rollouts: filters, the list, search, and the tables of tokens. credit_tokens.js, which comes
// before it in one function, draws the chosen group.
const ROWS_AT_ONCE = 200;
const STEPS_KEPT = 8; // unpacked at a time
const byId = (name) => document.getElementById(`credit-${name}`);

let run; // { number, rollouts, objective, ranked, steps, miniBatchName }
let found = [];
let shown = ROWS_AT_ONCE;
let order = { by: "spread", descending: true };
let open; // the rollout that is drawn
let drawn; // what drawGroup returned
let round = 0; // of filtering: a newer one ends the search of an older
const unpacked = new Map();

async function unpack(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

async function groupsOf(step) {
  const id = `credit-${run.number}-${step}`;
  if (!unpacked.has(id)) unpacked.set(id, unpack(id));
  const groups = unpacked.get(id);
  unpacked.delete(id); // and to the end: the first is the one not used for longest
  unpacked.set(id, groups);
  if (unpacked.size > STEPS_KEPT) unpacked.delete(unpacked.keys().next().value);
  return groups;
}

async function readRun(number) {
  const index = await unpack(`credit-${number}`);
  const rollouts = index.rollouts.map((row) => Object.fromEntries(index.columns.map((name, i) => [name, row[i]])));
  const total = index.mini_batches;
  return {
    number, rollouts, objective: index.objective, ranked: index.ranked, gallery: index.gallery, truth: index.truth,
    steps: [...new Set(rollouts.map((one) => one.step))],
    miniBatchName: (n) => total == null ? `mini-batch ${n + 1}` : `mini-batch ${n + 1} of ${total}`,
  };
}

function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  select.value = String(chosen);
}

function fillFilters() {
  const distinct = (name) => [...new Set(run.rollouts.map((one) => one[name]).filter((value) => value != null))].sort();
  const numbers = distinct("mini_batch").map(Number).sort((a, b) => a - b);
  const last = numbers.at(-1) ?? "";
  fill(byId("mini-batch"), [["", "any"], ...numbers.map((n) => [n, `${run.miniBatchName(n).slice(11)}${n === 0 && !weightless(run.objective) ? " (f = 1)" : ""}`])], last);
  const steps = run.rollouts.filter((one) => last === "" || one.mini_batch === last).map((one) => one.step);
  fill(byId("step"), [["", "all"], ...run.steps.map((step) => [step, step])], steps.at(-1));
  fill(byId("result"), [["", "any"], ...distinct("outcome").map((name) => [`outcome ${name}`, name.replace("_", " ")]),
    ["above", "reward above 0"], ["below", "reward 0 or below"]], "");
  byId("run").closest("label").hidden = byId("run").options.length === 1;
  const without = [...(run.truth ? [] : ["true_advantage"]), ...(weightless(run.objective) ? ["influence_weight", "advantage_weight"] : [])];
  const quantities = Object.entries(QUANTITIES).filter(([name]) => !without.includes(name));
  fill(byId("quantity"), quantities.map(([name, { label }]) => [name, label]), weightless(run.objective) ? "log_ratio" : "influence_weight");
  byId("truth").hidden = !run.truth;
  for (const mark of document.querySelectorAll("#credit .credit-of-weights")) mark.hidden = weightless(run.objective);
}

function passes(one) {
  const value = (name) => byId(name).value;
  const result = value("result");
  return (value("step") === "" || one.step === Number(value("step")))
    && (value("mini-batch") === "" || one.mini_batch === Number(value("mini-batch")))
    && (result === "" || result === `outcome ${one.outcome}`
      || (one.reward != null && result === (one.reward > 0 ? "above" : "below")))
    && (value("shortest") === "" || one.length >= Number(value("shortest")))
    && (value("longest") === "" || one.length <= Number(value("longest")))
    && one.problem.toLowerCase().includes(value("problem").toLowerCase());
}

function compare(a, b) {
  const [x, y] = [a[order.by], b[order.by]];
  if (x == null || y == null) return (x == null) - (y == null);
  const difference = typeof x === "string" ? x.localeCompare(y) : x - y;
  return order.descending ? -difference : difference;
}

async function filter() {
  const mine = ++round;
  shown = ROWS_AT_ONCE;
  const text = byId("text").value.toLowerCase();
  const candidates = run.rollouts.filter(passes);
  if (text === "") {
    found = candidates;
    list(`${found.length.toLocaleString("en")} of ${run.rollouts.length.toLocaleString("en")} stored rollouts`);
  } else if (!await search(text, candidates, () => mine === round)) {
    return;
  }
  if (found.length && !found.includes(open)) await show(found[0]);
}

// Unpacks one step after another and lets the page live between two; false if a newer search took over.
async function search(text, candidates, isCurrent) {
  found = [];
  const steps = [...new Set(candidates.map((one) => one.step))];
  for (const [i, step] of steps.entries()) {
    const groups = await groupsOf(step);
    if (!isCurrent()) return false;
    found.push(...candidates.filter((one) => one.step === step && holds(groups[one.group], one.member, text)));
    list(`${found.length.toLocaleString("en")} rollouts with this text; searched ${i + 1} of ${steps.length} steps`);
    await new Promise((resume) => setTimeout(resume));
    if (!isCurrent()) return false;
  }
  if (!steps.length) list("0 rollouts to search");
  return true;
}

const holds = (group, member, text) =>
  (group.prompt ?? "").toLowerCase().includes(text) || group.responses[member].response.toLowerCase().includes(text);

function list(status) {
  byId("found").textContent = status;
  found.sort(compare);
  for (const button of document.querySelectorAll("#credit [data-sort]")) {
    const direction = button.dataset.sort !== order.by ? "none" : order.descending ? "descending" : "ascending";
    button.closest("th").setAttribute("aria-sort", direction);
  }
  byId("rows").replaceChildren(...found.slice(0, shown).map(row));
  byId("more").hidden = found.length <= shown;
}

function row(one) {
  const cells = [one.step, one.problem, one.reward, one.length, one.mini_batch == null ? null : one.mini_batch + 1,
    ...(weightless(run.objective) ? [] : [one.spread])];
  const element = made("tr");
  element.append(...cells.map((value) => made("td", typeof value === "string" ? "credit-text" : "",
    value == null ? "" : typeof value === "string" ? value : few(value))));
  element.tabIndex = 0;
  element.rollout = one;
  element.setAttribute("aria-current", one === open);
  return element;
}

async function show(one, position) {
  open = one;
  for (const element of byId("rows").children) element.setAttribute("aria-current", element.rollout === one);
  const group = (await groupsOf(one.step))[one.group];
  if (open !== one) return;
  byId("title").textContent = `Step ${one.step}, ${one.problem}: ${group.responses.length} responses`
    + (group.expected == null ? "" : `, expected ${group.expected}`);
  byId("prompt").textContent = group.prompt ?? "";
  drawn = drawGroup(byId("responses"), group, one.member, run);
  drawn.colour(byId("quantity").value, byId("legend"));
  byId("group").hidden = false;
  if (position === undefined) return;
  const token = drawn.reach(one.member, position);
  token.scrollIntoView({ block: "center" });
  token.focus({ preventScroll: true });
}

function drawRanked() {
  const { ranked } = run;
  const from = ranked.mini_batch == null ? "No credit is recorded." : `Over the ${ranked.responses.toLocaleString("en")} `
    + `stored responses in the loss of ${run.miniBatchName(ranked.mini_batch)}, the last one. `
    + `By token: those that occur ${ranked.occurrences} times or more. Single tokens: one of a response.`;
  byId("ranked-from").textContent = from;
  const bound = run.objective.influence_clip?.[0];
  const bounded = (name) => name === "attenuated" && bound >= 1 ? `: its lower bound is ${few(bound)}` : "";
  const tables = ranked.mini_batch == null ? [] : [["amplified", "above"], ["attenuated", "below"]].flatMap(([name, side]) => [
    rankedTable(`Most ${name}, by token`, ["token", "times", "mean f", "smallest", "largest"], ranked[name].by_token.map((one) =>
      [code(one.token), one.n, few(one.mean), few(one.min), few(one.max)]), `No token has a mean f ${side} 1${bounded(name)}.`),
    rankedTable(`Most ${name}, single tokens`, ["where", "", "f", "FutureKL", "advantage"], ranked[name].single.map((one) =>
      [opener(one), inContext(one), few(one.influence_weight), few(one.future_kl), few(one.advantage)]), `No token has f ${side} 1${bounded(name)}.`),
  ]);
  byId("ranked").replaceChildren(...tables);
}

function rankedTable(title, names, rows, none) {
  const box = made("div", names.includes("FutureKL") ? "credit-single" : "");
  box.append(made("h4", "", title));
  if (!rows.length) {
    box.append(made("p", "credit-small", none));
    return box;
  }
  const table = made("table"), head = made("tr"), thead = made("thead"), body = made("tbody");
  head.append(...names.map((name, i) => made("th", i ? "" : "credit-text", name)));
  thead.append(head);
  for (const cells of rows) {
    const line = made("tr");
    line.append(...cells.map((cell, i) => {
      const td = made("td", i && typeof cell !== "object" ? "" : "credit-text");
      td.append(cell);
      return td;
    }));
    body.append(line);
  }
  table.append(thead, body);
  box.append(table);
  return box;
}

const code = (token) => made("code", "", visible(token).replaceAll("\n", ""));

function inContext(one) {
  const place = made("span");
  place.append(one.before, code(one.token), one.after);
  return place;
}

function opener(one) {
  const button = made("button", "", `step ${one.step}`);
  button.type = "button";
  button.addEventListener("click", () => {
    openAt(one.step, one.group, one.member, one.position);
  });
  return button;
}

async function openAt(step, group, member, position) {
  await show(run.rollouts.find((one) => one.step === step && one.group === group && one.member === member), position);
  if (position === undefined) byId("title").scrollIntoView({ block: "start" });
}

// The group of the gallery whose weights differ most, with the filters set to where it is.
async function openWidest() {
  if (!run.gallery.length) return;
  const { step, group, members } = run.gallery.reduce((widest, one) => one.sd > widest.sd ? one : widest);
  const rollout = run.rollouts.find((one) => one.step === step && one.group === group && one.member === members[0]);
  byId("step").value = step;
  byId("mini-batch").value = rollout.mini_batch ?? "";
  await show(rollout);
}

async function choose(number) {
  run = await readRun(number);
  fillFilters();
  drawRanked();
  await drawGallery(byId("gallery"), run, groupsOf, openAt);
  await openWidest();
  await filter();
}

function move(by) {
  const select = byId("step");
  const next = select.selectedIndex + by;
  if (next < 1 || next >= select.options.length) return;
  select.selectedIndex = next;
  filter();
}

// A search is over the whole run: what narrows it to a step or a mini-batch is taken off when it begins, to be seen.
function searchAll(event) {
  const begins = event.target.value !== "" && !event.target.dataset.searched;
  event.target.dataset.searched = event.target.value;
  if (begins) byId("step").value = byId("mini-batch").value = "";
  clearTimeout(searchAll.timer);
  searchAll.timer = setTimeout(filter, 200);
}

function listen() {
  const form = document.querySelector("#credit .credit-controls");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", (event) => {
    if (event.target.id === "credit-run") choose(event.target.value);
    else if (event.target.type !== "search") filter();
  });
  for (const name of ["problem", "text"]) byId(name).addEventListener("input", searchAll);
  byId("previous").addEventListener("click", () => move(-1));
  byId("next").addEventListener("click", () => move(1));
  byId("more").addEventListener("click", () => { shown += ROWS_AT_ONCE; list(byId("found").textContent); });
  byId("rows").addEventListener("click", (event) => show(event.target.closest("tr").rollout));
  byId("rows").addEventListener("keydown", (event) => { if (event.key === "Enter") show(event.target.rollout); });
  document.querySelector("#credit thead").addEventListener("click", (event) => {
    const by = event.target.dataset.sort;
    if (!by) return;
    order = { by, descending: by === order.by ? !order.descending : true };
    list(byId("found").textContent);
  });
  byId("quantity").addEventListener("change", (event) => drawn.colour(event.target.value, byId("legend")));
  explain([byId("gallery"), byId("responses")], byId("tip"));
}

// The first run that has weights, if one has.
async function chooseFirst() {
  const numbers = [...byId("run").options].map((option) => option.value);
  const indices = await Promise.all(numbers.map(readRun));
  byId("run").value = numbers[Math.max(0, indices.findIndex((one) => !weightless(one.objective)))];
  await choose(byId("run").value);
}

function start() {
  listen();
  if ("DecompressionStream" in window) chooseFirst();
  else byId("found").textContent = "This browser is too old to unpack the rollouts (no DecompressionStream).";
}

if (byId("run")) start();
