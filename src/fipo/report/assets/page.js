// The controls, and the drawing of each figure when it comes into view.
const PRINTED_WIDTH = 640; // pixels; fits A4 and Letter
const ALL_ZERO = { annotations: [{ text: "0 at every step", xref: "paper", yref: "paper", x: 0.5, y: 0.5, showarrow: false }] };
const data = JSON.parse(document.getElementById("report-data").textContent);
const plots = [...document.querySelectorAll(".plot")];
const chapters = [...document.querySelectorAll(".chapter")];
const touch = matchMedia("(pointer: coarse)").matches;
const root = document.documentElement;
const hidden = new Set(); // arms
const inView = new Set(); // plots
const stale = new Set(plots);
const smoothing = document.getElementById("smoothing");
const theme = document.getElementById("theme");
let printing = false;

const shownArms = () => data.arms.filter((_, index) => !hidden.has(index));
const figureOf = (element) => data.figures[Number(element.closest("figure").dataset.figure)];

function swatch(index) {
  const pattern = dash(index) === "solid" ? "" : dash(index).replaceAll("px", "");
  const svg = `<svg width="28" height="10" aria-hidden="true"><line x1="0" x2="28" y1="5" y2="5" stroke-width="3"
    stroke="var(${colourName(index)})" stroke-dasharray="${pattern}"/></svg>`;
  const element = document.createElement("span");
  element.className = "swatch";
  element.innerHTML = svg;
  return element;
}

function item(tag, ...content) {
  const element = document.createElement(tag);
  element.append(...content);
  return element;
}

function legend(plot, figure, traces) {
  const arms = data.arms.flatMap((arm, index) => (traces[index].length ? [item("li", swatch(index), armLabel(arm))] : []));
  const there = (one) => Object.values(data.runs).some((columns) => columns[one.key]);
  const series = figure.series.flatMap((one, number) => (there(one) ? [item("li", `${SYMBOLS[number][1]} ${one.label}`)] : []));
  plot.closest("figure").querySelector(".legend").replaceChildren(...arms, ...(series.length > 1 ? series : []));
}

function draw(plot) {
  stale.delete(plot);
  const figure = figureOf(plot);
  const weight = Number(smoothing.value);
  const traces = data.arms.map((arm, index) => (hidden.has(index) ? [] : tracesOf(data, arm, index, figure, weight)));
  const buttons = touch ? ["zoomIn2d", "zoomOut2d", "resetScale2d"] : ["zoom2d", "pan2d", "resetScale2d"];
  const layout = { ...layoutOf(figure), dragmode: touch ? false : "zoom" };
  if (printing) Object.assign(layout, { autosize: false, width: PRINTED_WIDTH });
  if (traces.flat().length && traces.flat().every((trace) => trace.y.every((y) => y === 0))) Object.assign(layout, ALL_ZERO);
  legend(plot, figure, traces);
  Plotly.react(plot, traces.flat(), layout, {
    displaylogo: false, responsive: true, displayModeBar: touch ? true : "hover", modeBarButtons: [[...buttons, "toImage"]],
  });
}

function drawInView() {
  for (const plot of inView) if (stale.has(plot)) draw(plot);
}

function redraw() {
  plots.forEach((plot) => stale.add(plot));
  requestAnimationFrame(drawInView);
}

function chip(arm, index) {
  const name = item("span", armLabel(arm));
  name.className = "name";
  const button = item("button", swatch(index), name);
  button.className = "chip";
  button.type = "button";
  button.title = arm.runs.join(", ");
  button.setAttribute("aria-pressed", "true");
  button.addEventListener("click", () => {
    const shown = !hidden.delete(index) && hidden.add(index) ? "false" : "true";
    button.setAttribute("aria-pressed", shown);
    redraw();
  });
  return button;
}

function setTheme(choice) {
  if (choice === "system") delete root.dataset.theme;
  else root.dataset.theme = choice;
  document.dispatchEvent(new Event("themechange"));
}

function download(button) {
  const figure = figureOf(button);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csvOf(data, shownArms(), figure)], { type: "text/csv" }));
  link.download = `${figure.title.toLowerCase().replace(/[^a-z0-9]+/g, "_")}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

document.querySelector(".chips").append(...data.arms.map(chip));
document.querySelectorAll(".swatch[data-arm]").forEach((place) => place.replaceWith(swatch(Number(place.dataset.arm))));
document.querySelectorAll(".csv").forEach((button) => button.addEventListener("click", () => download(button)));
smoothing.addEventListener("input", () => {
  document.getElementById("smoothing-value").value = Number(smoothing.value) ? smoothing.value : "off";
  redraw();
});
theme.addEventListener("change", () => setTheme(theme.value));
document.addEventListener("themechange", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme(theme.value));
addEventListener("beforeprint", () => {
  printing = true;
  chapters.forEach((chapter) => { chapter.open = true; });
  setTheme("light");
  plots.forEach(draw);
});
addEventListener("afterprint", () => {
  printing = false;
  setTheme(theme.value);
});
function openTarget() {
  const chapter = document.getElementById(location.hash.slice(1))?.closest(".chapter");
  if (chapter) chapter.open = true;
}

// On a phone the figures behind the first chapter would be twenty screens between the top and the credit.
if (matchMedia("(max-width: 600px)").matches) chapters.slice(1).forEach((chapter) => { chapter.open = false; });
addEventListener("hashchange", openTarget);
document.querySelector("nav").addEventListener("click", () => setTimeout(openTarget));
openTarget();
const watch = new IntersectionObserver((entries) => {
  for (const entry of entries) inView[entry.isIntersecting ? "add" : "delete"](entry.target);
  drawInView();
}, { rootMargin: "200px" });
plots.forEach((plot) => watch.observe(plot));
