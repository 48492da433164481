// From the runs' columns to plotly's traces, and to CSV. Draws nothing.
"use strict";

const DASHES = ["solid", "9px,4px", "2px,3px", "9px,3px,2px,3px", "16px,4px", "16px,4px,2px,4px"];
const SYMBOLS = [["circle", "●"], ["square", "■"], ["diamond", "◆"], ["triangle-up", "▲"], ["triangle-down", "▼"]];

const colourName = (arm) => `--arm-${arm % 6}`;
const dash = (arm) => DASHES[(arm + Math.floor(arm / 6)) % 6];
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;"); // plotly reads tags
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function armLabel(arm) {
  return arm.seeds.length ? `${arm.name} (seeds ${arm.seeds.join(", ")})` : arm.name;
}

// Exponential moving average whose first values are not pulled towards zero. Weight 0 changes nothing.
function smoothed(values, weight) {
  let sum = 0;
  let weights = 0;
  return values.map((value) => {
    sum = weight * sum + value;
    weights = weight * weights + 1;
    return sum / weights;
  });
}

// The points of one run by step: where it is, its value as measured, smoothed, and its interval.
function pointsOf(columns, figure, series, weight) {
  const xs = columns[figure.x.key];
  const ys = columns[series.key];
  if (!xs || !ys) return new Map();
  const [lows, highs] = (series.interval || []).map((key) => columns[key] || []);
  const rows = ys.map((_, row) => row).filter((row) => xs[row] !== null && ys[row] !== null);
  const evaluated = series.key.startsWith("eval/");
  const smooth = smoothed(rows.map((row) => ys[row]), evaluated ? 0 : weight);
  return new Map(rows.map((row, index) => [columns.step[row], {
    x: xs[row], measured: ys[row], y: smooth[index], low: lows?.[row], high: highs?.[row],
  }]));
}

// One line: of a run with its 95% interval, or the mean of an arm's seeds with a band from the lowest to the highest,
// at the steps that all of them have.
function lineOf(data, arm, figure, series, weight) {
  const seeds = arm.runs.map((run) => pointsOf(data.runs[run], figure, series, weight)).filter((seed) => seed.size);
  if (!seeds.length) return [];
  const steps = [...seeds[0].keys()].filter((step) => seeds.every((seed) => seed.has(step)));
  return steps.map((step) => {
    const points = seeds.map((seed) => seed.get(step));
    if (arm.runs.length === 1) return { step, ...points[0] };
    const ys = points.map((point) => point.y);
    return {
      step, x: mean(points.map((point) => point.x)), measured: mean(points.map((point) => point.measured)), y: mean(ys),
      low: Math.min(...ys), high: Math.max(...ys),
    };
  });
}

function bandTrace(line, colour) {
  const inside = line.filter((point) => point.low != null && point.high != null);
  return {
    x: [...inside.map((point) => point.x), ...inside.map((point) => point.x).reverse()],
    y: [...inside.map((point) => point.high), ...inside.map((point) => point.low).reverse()],
    mode: "lines", fill: "toself", fillcolor: `${colour}26`, line: { width: 0 }, hoverinfo: "skip",
  };
}

function lineTrace(line, figure, series, style) {
  const number = figure.unit === "share" ? ".3~p" : ".5~g";
  const before = style.smooth ? ` (measured %{customdata[1]:${number}})` : "";
  const step = figure.x.key === "step" ? "" : ", step %{customdata[0]}";
  const marked = style.symbol || series.key.startsWith("eval/") || line.length === 1;
  return {
    x: line.map((point) => point.x), y: line.map((point) => point.y),
    customdata: line.map((point) => [point.step, point.measured]),
    mode: marked ? "lines+markers" : "lines", name: plain(style.name),
    line: { color: style.colour, dash: style.dash, width: 2 },
    marker: { symbol: style.symbol || "circle", size: style.size, maxdisplayed: 12 },
    hovertemplate: `%{fullData.name}: %{y:${number}}${before}${step}<extra></extra>`,
  };
}

// Of one arm: a band and a faint line as measured behind each line.
function tracesOf(data, arm, index, figure, weight) {
  const colour = css(colourName(index));
  return figure.series.flatMap((series, number) => {
    const line = lineOf(data, arm, figure, series, weight);
    if (!line.length) return [];
    const several = figure.series.length > 1;
    const smooth = weight > 0 && !series.key.startsWith("eval/");
    const style = {
      colour, smooth, dash: dash(index), size: Math.max(5, 9 - 2 * index), symbol: several && SYMBOLS[number][0],
      name: several ? `${arm.name}, ${series.label}` : arm.name,
    };
    const traces = [lineTrace(line, figure, series, style)];
    if (smooth) {
      traces.unshift({
        x: line.map((point) => point.x), y: line.map((point) => point.measured),
        mode: "lines", line: { color: colour, width: 1 }, opacity: 0.3, hoverinfo: "skip",
      });
    }
    if (line.some((point) => point.low != null)) traces.unshift(bandTrace(line, colour));
    return traces;
  });
}

function layoutOf(figure) {
  const axis = { gridcolor: css("--line"), zerolinecolor: css("--line"), automargin: true, exponentformat: "none", separatethousands: true, title: { standoff: 8 } };
  const overSteps = figure.x.key === "step";
  return {
    autosize: true, height: 300, showlegend: false, uirevision: "keep the zoom",
    margin: { l: 50, r: 14, t: 28, b: 40 },
    font: { family: "system-ui, sans-serif", size: 12, color: css("--ink") },
    paper_bgcolor: css("--panel"), plot_bgcolor: css("--panel"),
    hovermode: overSteps ? "x unified" : "closest", hoverdistance: -1, // as far as the next point is
    hoverlabel: { bgcolor: css("--panel"), bordercolor: css("--line"), font: { color: css("--ink") } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--muted"), activecolor: css("--accent") },
    xaxis: {
      ...axis, title: { ...axis.title, text: figure.x.label },
      hoverformat: overSteps ? "d" : ".1f", unifiedhovertitle: { text: "step %{x}" },
    },
    yaxis: {
      ...axis, title: { ...axis.title, text: figure.y },
      ...(figure.unit === "share" ? { tickformat: "~%", rangemode: "tozero" } : {}),
    },
  };
}

// What the figure shows of these arms, as measured: one row per run and step. A text that a spreadsheet would take for
// a formula gets an apostrophe in front.
function csvOf(data, arms, figure) {
  const cell = (value) => {
    const text = typeof value === "string" ? value.replace(/^[=+\-@\t\r]/, "'$&") : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
  };
  const rows = [["run", "step", ...figure.keys]];
  for (const run of arms.flatMap((arm) => arm.runs)) {
    const columns = data.runs[run];
    (columns.step || []).forEach((step, row) => {
      const values = figure.keys.map((key) => columns[key]?.[row] ?? "");
      if (values.some((value) => value !== "")) rows.push([run, step, ...values]);
    });
  }
  return rows.map((row) => row.map(cell).join(",") + "\r\n").join("");
}
