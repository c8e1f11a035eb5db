/**
 * Plots as SVG, by hand: lines with points over two axes, readable on light and dark ground, the same bytes for the same
 * figures.
 */
import { type Axis, digits, type Plot } from './table.ts';

const [WIDTH, HEIGHT] = [640, 360];
const MARGIN = { left: 78, right: 150, top: 40, bottom: 52 };
const COLOURS = ['#3b7dd8', '#d9822b', '#2e9e6b', '#b04ac7', '#c23b3b', '#7a7a7a'];
const INK = '#808080';
const TICKS = 5;
/** Below it, a logarithmic axis shows every 1, 2 and 5; beyond, powers of ten. */
const FINE_DECADES = 2.5;

interface Scale {
  /** Of a value, from 0 to 1. */
  readonly at: (value: number) => number;
  readonly ticks: readonly number[];
}

function linear(values: readonly number[]): Scale {
  // Where nothing was measured there is still an axis.
  const top = Math.max(0, ...values) || 1;
  const rough = top / TICKS;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10) * power;
  const last = Math.ceil(top / step);
  return { at: (value) => value / (last * step), ticks: Array.from({ length: last + 1 }, (_, n) => n * step) };
}

function logarithmic(values: readonly number[]): Scale {
  const positive = values.filter((value) => value > 0);
  const from = Math.floor(Math.log10(Math.min(...positive)));
  const until = Math.max(from + 1, Math.ceil(Math.log10(Math.max(...positive))));
  const factors = until - from <= FINE_DECADES ? [1, 2, 5] : [1];
  const decades = Array.from({ length: until - from }, (_, n) => 10 ** (from + n));
  const ticks = [...decades.flatMap((decade) => factors.map((factor) => factor * decade)), 10 ** until];
  return { at: (value) => (Math.log10(Math.max(value, 10 ** from)) - from) / (until - from), ticks };
}

const scaleOf = ({ logarithmic: isLog = false }: Axis, values: readonly number[]): Scale =>
  isLog && values.some((value) => value > 0) ? logarithmic(values) : linear(values);

const text = (x: number, y: number, anchor: string, value: string, more = ''): string =>
  `<text x="${round(x)}" y="${round(y)}" text-anchor="${anchor}"${more}>${escaped(value)}</text>`;
const round = (value: number): string => value.toFixed(1).replace(/\.0$/u, '');
const escaped = (value: string): string => value.replace(/&/gu, '&amp;').replace(/</gu, '&lt;');

export function svgOf({ title, x, y, lines }: Plot): string {
  const points = lines.flatMap((line) => line.points);
  const across = scaleOf(
    x,
    points.map(([value]) => value),
  );
  const up = scaleOf(
    y,
    points.map(([, value]) => value),
  );
  const inner = { width: WIDTH - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };
  const px = (value: number): number => MARGIN.left + across.at(value) * inner.width;
  const py = (value: number): number => MARGIN.top + (1 - up.at(value)) * inner.height;
  const bottom = MARGIN.top + inner.height;
  const grid = [
    ...across.ticks.map((tick) => `<path d="M${round(px(tick))} ${MARGIN.top}V${round(bottom)}"/>`),
    ...up.ticks.map((tick) => `<path d="M${MARGIN.left} ${round(py(tick))}H${MARGIN.left + inner.width}"/>`),
  ];
  const labels = [
    ...across.ticks.map((tick) => text(px(tick), bottom + 16, 'middle', digits(tick))),
    ...up.ticks.map((tick) => text(MARGIN.left - 6, py(tick) + 4, 'end', digits(tick))),
    text(MARGIN.left + inner.width / 2, HEIGHT - 12, 'middle', x.title),
    text(0, 0, 'middle', y.title, ` transform="translate(16 ${round(MARGIN.top + inner.height / 2)}) rotate(-90)"`),
    text(MARGIN.left, 22, 'start', title, ' font-weight="bold" font-size="14"'),
  ];
  const drawn = lines.map(({ name, points: own }, index) => {
    const colour = COLOURS[index % COLOURS.length] as string;
    const path = own.map(([a, b], n) => `${n === 0 ? 'M' : 'L'}${round(px(a))} ${round(py(b))}`).join('');
    const dots = own.map(([a, b]) => `<circle cx="${round(px(a))}" cy="${round(py(b))}" r="3"/>`).join('');
    const legend = MARGIN.top + 8 + index * 18;
    const end = MARGIN.left + inner.width;
    return (
      `<g stroke="${colour}" fill="${colour}"><path d="${path}" fill="none" stroke-width="2"/>${dots}` +
      `<path d="M${end + 12} ${legend}h18" stroke-width="2"/></g>${text(end + 36, legend + 4, 'start', name)}`
    );
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}">`,
    `<g stroke="${INK}" stroke-opacity="0.3" fill="none">${grid.join('')}</g>`,
    `<g font-family="sans-serif" font-size="11" fill="${INK}">`,
    ...labels,
    ...drawn,
    '</g>',
    '</svg>',
    '',
  ].join('\n');
}
