// A chart that is updated in place. Streamlit calls the default function with each new `data`; Plotly.react changes the
// drawing that is there, so a zoom survives a new round and nothing flickers.
//
// data: { source, figure (JSON text), templates (JSON text of { light, dark }), revision, view, alt, filename }
//   revision changes with the figure; view changes with the run, and then the zoom starts anew.

const HEIGHT = 340; // of a figure that does not ask for another
const NARROW = 460; // a chart less wide has short labels [px]
// the last would send the chart to plotly's server: nothing leaves this computer
const BUTTONS_LEFT_OUT = ["select2d", "lasso2d", "autoScale2d", "sendChartToCloud"];

// One copy of plotly.js a browser page, however many charts: the file is 5 MB.
function library(source) {
  window.pwffPlotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = source;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      window.pwffPlotly = undefined; // so that the next round tries again
      reject(new Error(`${source} cannot be loaded`));
    };
    document.head.append(script);
  });
  return window.pwffPlotly;
}

// Light or dark as the page is now: read from its background, so that a switch of theme needs no word from the server.
function pageTheme(element) {
  const background = getComputedStyle(element.closest(".stApp") ?? document.body).backgroundColor;
  const [red, green, blue] = (background.match(/[\d.]+/g) ?? [255, 255, 255]).map(Number);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue < 128 ? "dark" : "light";
}

// The labels that a figure holds for a narrow chart (its meta, by the name of the label) in the place of the others.
function shortened({ annotations = [], meta }) {
  return annotations.map((label) => ({ ...label, ...meta?.narrow?.[label.name] }));
}

function draw(chart) {
  const { Plotly, plot, data } = chart;
  const theme = pageTheme(plot);
  const narrow = plot.clientWidth < NARROW;
  const state = `${data.view}/${data.revision}/${theme}/${narrow}`;
  if (chart.state === state) return;
  chart.state = state;
  const figure = JSON.parse(data.figure);
  const layout = {
    ...figure.layout,
    ...(narrow ? { annotations: shortened(figure.layout) } : {}),
    template: JSON.parse(data.templates)[theme],
    uirevision: data.view,
    height: figure.layout.height ?? HEIGHT,
    autosize: true,
    // a finger on a chart scrolls the page; a mouse zooms
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
  };
  const config = {
    responsive: true,
    displaylogo: false,
    showTips: false, // plotly's hint after a first zoom: pale, fading, and in the way of what was zoomed to
    modeBarButtonsToRemove: BUTTONS_LEFT_OUT,
    toImageButtonOptions: { format: "svg", filename: data.filename, width: 800, height: 500 },
  };
  plot.style.minHeight = `${layout.height}px`; // when the window changes, plotly takes the element's height
  follow(chart, Plotly.react(plot, figure.data, layout, config)).then(() => makeReachable(plot));
}

// Plotly draws in steps: `chart.drawn` is settled once none is left. What fails is still reported by the promise returned.
function follow(chart, steps) {
  chart.drawn = Promise.allSettled([chart.drawn, steps]);
  return steps.then();
}

// Plotly's buttons are links without an address: give each a place in the tab order, a name and the keys of a button.
// The drawing itself is not read out, number by number: the chart's label says what it shows.
function makeReachable(plot) {
  for (const drawing of plot.querySelectorAll(".main-svg")) drawing.setAttribute("aria-hidden", "true");
  for (const button of plot.querySelectorAll(".modebar-btn")) {
    button.setAttribute("role", "button");
    button.setAttribute("tabindex", "0");
    button.setAttribute("aria-label", button.dataset.title ?? "");
    button.onkeydown = (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      button.click();
    };
  }
}

function mount(plot) {
  const chart = { plot };
  const redraw = () => chart.Plotly && draw(chart);
  chart.sizes = new ResizeObserver(() => {
    if (!chart.state) return;
    redraw(); // where it has become narrow, or is so no more
    follow(chart, chart.Plotly.Plots.resize(plot));
  });
  chart.sizes.observe(plot);
  chart.themes = new MutationObserver(() => requestAnimationFrame(redraw));
  const app = plot.closest(".stApp") ?? document.body;
  chart.themes.observe(app, { attributes: true, attributeFilter: ["class", "style"] });
  return chart;
}

export default function ({ data, parentElement }) {
  const plot = parentElement.querySelector(".pwff-chart");
  const chart = (plot.pwffChart ??= mount(plot));
  chart.data = data;
  plot.setAttribute("aria-label", data.alt);
  library(data.source)
    .then((Plotly) => {
      chart.Plotly = Plotly;
      plot.querySelector(".pwff-waiting")?.remove();
      draw(chart);
    })
    .catch((error) => {
      const waiting = plot.querySelector(".pwff-waiting");
      if (waiting) waiting.textContent = `The chart cannot be drawn (${error.message}); its numbers are in the table below.`;
    });
  return () => {
    chart.sizes.disconnect();
    chart.themes.disconnect();
    plot.pwffChart = undefined;
    // the steps that are left would fail on a chart that is purged; a new mount keeps the drawing
    Promise.resolve(chart.drawn).then(() => plot.pwffChart || chart.Plotly?.purge(plot));
  };
}
