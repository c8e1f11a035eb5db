/** Tables and plots of a benchmark, as data: printed as Markdown that can go into the document as it is. */

export interface Table {
  readonly title: string;
  readonly head: readonly string[];
  /** A cell that nothing was measured for is NaN or null, and shown as a dash. */
  readonly rows: readonly (readonly (string | number | null)[])[];
}

/** A line of points for each name. */
export interface Plot {
  /** Of the file: docs/plots/NAME.svg */
  readonly name: string;
  readonly title: string;
  readonly x: Axis;
  readonly y: Axis;
  readonly lines: readonly Line[];
}

export interface Axis {
  readonly title: string;
  readonly logarithmic?: boolean;
}

export interface Line {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

/** Three digits, thousands apart: more than that no benchmark knows. */
export function digits(value: number): string {
  return value.toLocaleString('en', { maximumSignificantDigits: 3 });
}

function cellText(cell: string | number | null): string {
  if (typeof cell === 'string') return cell;
  return cell === null || Number.isNaN(cell) ? '–' : digits(cell);
}

export function markdownOf({ title, head, rows }: Table): string {
  const cells = [head, ...rows.map((row) => row.map(cellText))];
  const widths = head.map((_, column) => Math.max(3, ...cells.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]): string =>
    `| ${row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join(' | ')} |`;
  const rule = `| ${widths.map((width, i) => (i === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`)).join(' | ')} |`;
  const [first = head, ...others] = cells;
  return [`${title}:`, '', line(first), rule, ...others.map(line)].join('\n');
}
