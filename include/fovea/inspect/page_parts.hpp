// fovea/inspect/page_parts.hpp - style, body and script of the page of page.hpp, as text.
//
// All are HTML as well as XML: the style has no < and no &, the script stands in a CDATA section. Names of
// the data that the script reads are those that page.hpp writes.
#pragma once

#include <fovea/config.hpp>

#include <string_view>

FOVEA_NAMESPACE_BEGIN
namespace inspect {

inline constexpr std::string_view page_style = R"css(
  :root { color: #1b2330; background: #fff; font: 15px/1.45 system-ui, "DejaVu Sans", sans-serif; }
  body { margin: 0 auto; padding: 20px 28px 40px; max-width: 1500px; }
  h1 { font-size: 21px; line-height: 1.3; margin: 0 0 4px; overflow-wrap: anywhere; }
  p { margin: 0 0 14px; color: #4a5567; max-width: 72em; }
  form { display: flex; flex-wrap: wrap; gap: 8px 20px; align-items: center; margin-bottom: 16px; }
  label { color: #4a5567; }
  select { font: inherit; color: inherit; background: #fff; border: 1px solid #8b97a8; border-radius: 5px;
           padding: 3px 6px; margin-left: 5px; }
  main { display: flex; flex-wrap: wrap; gap: 24px 36px; align-items: flex-start; }
  main > div, #scroll { min-width: 0; max-width: 100%; }
  #view, #scroll { overflow-x: auto; }
  #map { display: block; cursor: crosshair; }
  #reading { min-height: 3.2em; margin: 0 0 6px; color: #1b2330; }
  #reading b { font-size: 21px; font-variant-numeric: tabular-nums; }
  #reading span, td:first-child { background: #eef2f8; border-radius: 4px; padding: 1px 6px; }
  table { border-collapse: separate; border-spacing: 6px 3px; margin: 0 0 16px -6px; }
  caption, h2 { text-align: left; font-size: 13px; font-weight: 600; color: #4a5567; margin: 0 0 4px; }
  caption { margin-left: 6px; }
  td { font-variant-numeric: tabular-nums; }
  #top td:first-child { overflow-wrap: anywhere; }
  #top td:last-child { width: 100%; }
  td i { display: inline-block; height: 10px; min-width: 1px; background: #2d62b4; }
  #answer { min-height: 200px; }
  #side { flex: 1 1 290px; max-width: 720px; }
  #overview { border-collapse: separate; border-spacing: 3px; margin: 0 0 0 -3px; }
  #overview th { font-size: 11px; font-weight: 400; color: #4a5567; padding: 0 2px; }
  #overview td { padding: 0; background: none; }
  #overview button { display: block; padding: 1px; border: 2px solid #d4dae3; border-radius: 4px;
                     background: #fff; cursor: pointer; line-height: 0; }
  #overview button[aria-pressed=true] { border-color: #c2410c; }
  select:focus-visible, button:focus-visible, #map:focus-visible { outline: 3px solid #c2410c; }
  #scale { display: block; max-width: 100%; }
  @media (max-width: 600px) { body { padding: 14px 14px 28px; } main { gap: 16px; } }
)css";

inline constexpr std::string_view page_body = R"html(
<p>Each row is a query token; its cells say how its attention is spread over the keys, the columns.
Darker is more.</p>
<form>
<label>Layer<select id="layer"></select></label>
<label>Head<select id="head"></select></label>
<label>Colour by<select id="colour"><option value="logarithm">logarithm</option>
<option value="root">square root</option><option value="linear">probability</option></select></label>
<canvas id="scale" role="img" aria-label="Colours from probability 0 to 1"></canvas>
</form>
<main>
<div id="view"><canvas id="map" role="img" tabindex="0" aria-describedby="reading"></canvas></div>
<div id="side">
<div id="answer"><p id="reading" aria-live="polite"></p><table id="top"></table></div>
<h2>Layers (down) and heads (across)</h2>
<div id="scroll"><table id="overview"></table></div>
</div>
</main>
<noscript><p>This page needs its own script to draw.</p></noscript>
)html";

inline constexpr std::string_view page_script = R"js(
'use strict';
const page = JSON.parse(document.getElementById('data').textContent);
const {rows, columns, layers, heads, colours} = page;
const bytes = Uint8Array.from(atob(page.weights), c => c.charCodeAt(0));
const stored = new Uint16Array(bytes.length / 2).map((_, i) => bytes[2 * i] | bytes[2 * i + 1] << 8);
const get = id => document.getElementById(id);
const parts = colour => [1, 3, 5].map(i => parseInt(colour.slice(i, i + 2), 16));
const shades = colours.map(parts), shadeOfNaN = parts(page.nan);
const ink = '#333d4b', marked = '#c2410c', font = 'system-ui, "DejaVu Sans", sans-serif';
const state = {layer: 0, head: 0, row: -1, column: -1};
const create = (tag, text) => Object.assign(document.createElement(tag), {textContent: text ?? ''});
const short = text => [...text].length > 18 ? [...text].slice(0, 17).join('') + '\u2026' : text;

// The probabilities of a head; of head number `heads`, the mean over all heads of the layer.
function map(layer, head) {
  const size = rows * columns, first = (layer * heads + head) * size;
  const one = h => Array.from(stored.subarray(h, h + size), x => x === 65535 ? NaN : x / 65534);
  if (head < heads) return one(first);
  const all = Array.from({length: heads}, (_, h) => one((layer * heads + h) * size));
  return all[0].map((_, i) => all.reduce((sum, p) => sum + p[i], 0) / heads);
}

// Where a probability stands between the colour of 0 and that of 1. By the logarithm, what is below 1/10000
// is 0, and each factor of ten above it a quarter of the scale.
const least = 1e-4;
const placeOf = {
  linear: p => p,
  root: p => Math.sqrt(p),
  logarithm: p => p < least ? 0 : 0.06 + 0.94 * (1 - Math.log(p) / Math.log(least)),
};
const place = p => placeOf[get('colour').value](p);

// An image with a pixel a cell.
function cells(p) {
  const canvas = Object.assign(document.createElement('canvas'), {width: columns, height: rows});
  const context = canvas.getContext('2d'), image = context.createImageData(columns, rows);
  p.forEach((x, i) => {
    const shade = Number.isNaN(x) ? shadeOfNaN : shades[Math.round(place(x) * (shades.length - 1))];
    image.data.set([...shade, 255], 4 * i);
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

function sized(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  Object.assign(canvas, {width: Math.round(width * ratio), height: Math.round(height * ratio)});
  Object.assign(canvas.style, {width: width + 'px', height: height + 'px'});
  const context = canvas.getContext('2d');
  context.scale(ratio, ratio);
  return context;
}

// The map takes what the overview leaves of the window; in a narrow one each has all of it.
const measure = document.createElement('canvas').getContext('2d');
const pageWidth = document.querySelector('main').clientWidth, overviewWidth = Math.min(560, pageWidth);
measure.font = '700 14px ' + font;
const widest = labels => Math.max(0, ...labels.map(t => measure.measureText(short(t)).width / 14));
const ems = {left: widest(page.queries), above: widest(page.keys) * 0.72};
const beside = pageWidth - 40 - overviewWidth, across = beside > 400 ? beside : pageWidth;
const down = Math.max(420, innerHeight - 180);
// The largest cells that fit; labels go where they would not be read.
const sizeOf = cell => Math.max(8, Math.min(14, cell * 0.62));
const leftOf = cell => cell >= 9 ? ems.left * sizeOf(cell) + 10 : 4;
const aboveOf = cell => cell >= 9 ? ems.above * sizeOf(cell) + 14 : 4;
const fits = cell => leftOf(cell) + columns * cell + aboveOf(cell) <= across &&
                     aboveOf(cell) + rows * cell + 4 <= down;
let cell = 40;
while (cell > 2 && !fits(cell)) --cell;
const size = sizeOf(cell), labelled = cell >= 9, left = leftOf(cell), above = aboveOf(cell);
let shown = [], picture = null;  // the probabilities and the image of what is chosen

function draw() {
  const width = columns * cell, height = rows * cell;
  const context = sized(get('map'), left + width + above, above + height + 4);
  context.imageSmoothingEnabled = false;
  context.drawImage(picture, left, above, width, height);
  context.strokeStyle = '#aab3c0';
  context.strokeRect(left - 0.5, above - 0.5, width + 1, height + 1);
  const {row, column} = state;
  for (let i = 0; labelled && i < rows; ++i) {
    context.font = (i === row ? '700 ' : '') + size + 'px ' + font;
    context.fillStyle = i === row ? marked : ink;
    context.textAlign = 'right';
    context.textBaseline = 'middle';
    context.fillText(short(page.queries[i]), left - 6, above + (i + 0.5) * cell);
  }
  for (let j = 0; labelled && j < columns; ++j) {
    context.save();
    context.translate(left + (j + 0.5) * cell + size * 0.3, above - 6);
    context.rotate(-Math.PI / 4);
    context.font = (j === column ? '700 ' : '') + size + 'px ' + font;
    context.fillStyle = j === column ? marked : ink;
    context.textAlign = 'left';
    context.fillText(short(page.keys[j]), 0, 0);
    context.restore();
  }
  if (row < 0) return;
  context.strokeStyle = marked;
  context.lineWidth = 1;
  context.strokeRect(left - 0.5, above + row * cell - 0.5, width + 1, cell + 1);
  context.strokeRect(left + column * cell - 0.5, above - 0.5, cell + 1, height + 1);
  context.lineWidth = 3;
  context.strokeRect(left + column * cell, above + row * cell, cell, cell);
}

// Rows are told apart by their number where a token occurs twice.
const named = (labels, i) => labels[i] === String(i) ? labels[i] : labels[i] + ' (' + i + ')';

function read() {
  const {row, column} = state, reading = get('reading'), table = get('top');
  if (row < 0) {
    reading.textContent = 'Point at a cell, or focus the map and use the arrow keys.';
    table.hidden = true;
    return;
  }
  const p = shown.slice(row * columns, (row + 1) * columns);
  reading.replaceChildren(create('b', p[column].toFixed(4)), create('br'), 'query ',
                          create('span', named(page.queries, row)), ' to key ',
                          create('span', named(page.keys, column)));
  const entropy = p.reduce((sum, x) => x > 0 ? sum - x * Math.log(x) : sum, 0);
  const spread = entropy.toFixed(2) + ' nats, like ' + Math.exp(entropy).toFixed(1) + ' equal keys';
  table.replaceChildren(create('caption', 'Where this query looks (entropy ' + spread + ')'));
  const order = p.map((_, j) => j).sort((a, b) => p[b] - p[a]).slice(0, 5);
  for (const j of order) {
    const line = table.insertRow(), bar = create('i');
    line.insertCell().textContent = named(page.keys, j);
    line.insertCell().textContent = p[j].toFixed(4);
    bar.style.width = 120 * p[j] + 'px';
    line.insertCell().append(bar);
  }
  table.hidden = false;
}

function point(row, column) {
  if (row === state.row && column === state.column) return;
  Object.assign(state, {row, column});
  draw();
  read();
}

function choose(layer, head) {
  Object.assign(state, {layer, head});
  Object.assign(get('layer'), {value: layer});
  Object.assign(get('head'), {value: head});
  shown = map(layer, head);
  picture = cells(shown);
  const name = head < heads ? 'head ' + (page.firstHead + head) : 'mean of all heads';
  get('map').setAttribute('aria-label', 'Attention of layer ' + (page.firstLayer + layer) + ', ' + name);
  for (const button of document.querySelectorAll('#overview button'))
    button.setAttribute('aria-pressed', button.dataset.place === layer + ' ' + head);
  draw();
  read();
}

function fill() {
  const overview = get('overview');
  const most = Math.max(14, Math.min(64, Math.floor(overviewWidth / (heads + 1)) - 9));
  const side = Math.max(rows, columns), wide = most * columns / side, high = most * rows / side;
  overview.replaceChildren();
  const top = overview.insertRow();
  top.append(create('th'), ...Array.from({length: heads}, (_, h) => create('th', page.firstHead + h)));
  for (let l = 0; l < layers; ++l) {
    const line = overview.insertRow();
    line.append(create('th', page.firstLayer + l));
    for (let h = 0; h < heads; ++h) {
      const button = create('button'), canvas = document.createElement('canvas');
      const name = 'layer ' + (page.firstLayer + l) + ', head ' + (page.firstHead + h);
      Object.assign(button, {type: 'button', title: name, onclick: () => choose(l, h)});
      button.setAttribute('aria-label', name);
      button.dataset.place = l + ' ' + h;
      const context = sized(canvas, wide, high);
      context.imageSmoothingEnabled = side > most;
      context.drawImage(cells(map(l, h)), 0, 0, wide, high);
      button.append(canvas);
      line.insertCell().append(button);
    }
  }
  const scale = sized(get('scale'), 300, 34), colour = get('colour').value;
  colours.forEach((c, i) => {
    scale.fillStyle = c;
    scale.fillRect(12 + i * 256 / colours.length, 2, 256 / colours.length + 0.5, 10);
  });
  Object.assign(scale, {fillStyle: ink, font: '11px ' + font, textAlign: 'center'});
  const marks = {linear: [0, 0.25, 0.5, 0.75, 1], root: [0, 0.01, 0.05, 0.1, 0.25, 0.5, 1],
                 logarithm: [0.0001, 0.001, 0.01, 0.1, 1]};
  for (const p of marks[colour]) scale.fillText(p, 12 + 256 * place(p), 27);
}
)js";

/// What the script does at last, and when something is used.
inline constexpr std::string_view page_events = R"js(
for (let l = 0; l < layers; ++l) get('layer').add(new Option(page.firstLayer + l, l));
for (let h = 0; h < heads; ++h) get('head').add(new Option(page.firstHead + h, h));
get('colour').value = columns > 32 ? 'logarithm' : 'root';  // many keys have little each
if (heads > 1) get('head').add(new Option('mean of all', heads));
const chosen = () => choose(Number(get('layer').value), Number(get('head').value));
get('layer').onchange = get('head').onchange = chosen;
get('colour').onchange = () => { fill(); chosen(); };
get('map').onmousemove = event => {
  const row = Math.floor((event.offsetY - above) / cell), column = Math.floor((event.offsetX - left) / cell);
  if (row >= 0 && row < rows && column >= 0 && column < columns) point(row, column);
};
get('map').onmouseleave = () => point(-1, -1);
get('map').onkeydown = event => {
  const steps = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};
  if (!(event.key in steps)) return;
  const [down, right] = steps[event.key];
  event.preventDefault();
  const within = (x, most) => Math.max(0, Math.min(most - 1, x));
  if (state.row < 0) point(0, 0);
  else point(within(state.row + down, rows), within(state.column + right, columns));
};
fill();
choose(0, 0);
)js";

}  // namespace inspect
FOVEA_NAMESPACE_END
