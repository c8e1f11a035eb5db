/** Two small charts, drawn as SVG from numbers. Colours come from the style sheet; labels are text beside the drawing. */
import { el, svg } from './dom.js';
import { duration, number, rate } from './format.js';

const WIDTH = 600;
const HEIGHT = 96;

const scale = (value, max) => HEIGHT - (value / max) * (HEIGHT - 6);

function frame(label, [top, left, right], ...content) {
  return el(
    'div',
    { class: 'chart' },
    el('span', { class: 'chart-top' }, top),
    // Stretched to the place there is: strokes keep their width (non-scaling), text is outside.
    svg(
      'svg',
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': label, preserveAspectRatio: 'none' },
      ...content,
    ),
    el('span', { class: 'chart-axis' }, el('span', null, left), el('span', null, right)),
  );
}

const line = (y) => svg('line', { class: 'chart-grid', x1: 0, x2: WIDTH, y1: y, y2: y });

/** A round number at or above the value, for the top line. */
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1e-3)));
  return [1, 2, 5].map((step) => step * power).find((step) => step >= value) ?? 10 * power;
}

/** Transactions per second over time, the newest on the right. */
export function rateChart(rates, spanMs) {
  const max = ceiling(Math.max(...rates, 0.2));
  const step = WIDTH / (rates.length - 1);
  const points = rates.map((value, index) => `${(index * step).toFixed(1)},${scale(value, max).toFixed(1)}`);
  return frame(
    `Transactions per second over the last ${duration(spanMs)}, at most ${rate(Math.max(...rates))}`,
    [`${rate(max)} tx/s`, `${duration(spanMs)} ago`, 'now'],
    line(scale(max, max)),
    line(scale(max / 2, max)),
    svg('polygon', { class: 'chart-area', points: `0,${HEIGHT} ${points.join(' ')} ${WIDTH},${HEIGHT}` }),
    svg('polyline', { class: 'chart-line', points: points.join(' ') }),
    line(HEIGHT),
  );
}

/** One bar for each block: its transactions. Empty blocks, which only time asked for, are a line. */
export function blockChart(blocks, count) {
  const shown = blocks.slice(-count);
  const max = ceiling(Math.max(1, ...shown.map(({ txs }) => txs)));
  const step = WIDTH / count;
  const bars = shown.map(({ height, txs, intervalMs }, index) => {
    const left = (count - shown.length + index) * step;
    const top = txs === 0 ? HEIGHT - 3 : scale(txs, max);
    const after = intervalMs === null ? '' : `, ${duration(intervalMs)} after the one before`;
    return svg(
      'a',
      { href: `#/block/${height}`, tabindex: -1, 'aria-hidden': 'true' },
      svg('title', null, `Block ${number(height)}: ${number(txs)} tx${after}`),
      svg('rect', { class: 'chart-hit', x: left, y: 0, width: step, height: HEIGHT }),
      svg('rect', {
        class: txs === 0 ? 'chart-empty' : 'chart-bar',
        x: left + step * 0.14,
        y: top,
        width: step * 0.72,
        height: HEIGHT - top,
      }),
    );
  });
  const [first, last] = [shown[0], shown[shown.length - 1]];
  return frame(
    `Transactions in each of the last ${shown.length} blocks`,
    [`${number(max)} tx`, first ? `block ${number(first.height)}` : '', last ? number(last.height) : ''],
    line(scale(max, max)),
    ...bars,
    line(HEIGHT),
  );
}
