/**
 * Tables as Go's text/tabwriter makes them with (minwidth 0, tabwidth 8, padding 1, padchar tab), which is how rkt
 * prints all of its. A cell is text that ends with a tab; what follows the last tab of a line belongs to no column.
 */

const TAB_WIDTH = 8;
const PADDING = 1;

/** Lines of tab-separated text to aligned text. Every line of the result ends with a newline. */
export function alignTabs(lines: readonly string[]): string {
  const rows = lines.map((line) => line.split('\t'));
  const widths: number[] = [];
  let text = '';

  const writeRows = (from: number, to: number): void => {
    for (const row of rows.slice(from, to)) {
      row.forEach((cell, column) => {
        text += cell;
        const width = widths[column];
        if (column < row.length - 1 && width !== undefined) text += '\t'.repeat(Math.ceil((width - textWidth(cell)) / TAB_WIDTH));
      });
      text += '\n';
    }
  };

  // A column is a run of consecutive lines that have a cell in it; its width is that of its widest cell.
  const format = (from: number, to: number): void => {
    const column = widths.length;
    let done = from;
    for (let line = from; line < to; line++) {
      if (!hasCell(rows[line], column)) continue;
      writeRows(done, line);
      let end = line;
      let width = 0;
      while (end < to && hasCell(rows[end], column)) {
        width = Math.max(width, textWidth(rows[end]?.[column] ?? '') + PADDING);
        end++;
      }
      widths.push(Math.ceil(width / TAB_WIDTH) * TAB_WIDTH);
      format(line, end);
      widths.pop();
      done = end;
      line = end - 1;
    }
    writeRows(done, to);
  };

  format(0, rows.length);
  return text;
}

function hasCell(row: readonly string[] | undefined, column: number): boolean {
  return row !== undefined && column < row.length - 1;
}

function textWidth(text: string): number {
  return [...text].length;
}
