// Two texts compared line by line: the shortest edit by dynamic programming over what is left between the common
// beginning and the common end. Bounded: beyond CELLS_MAX the middle is told as replaced as a whole.
export interface LinePart {
  op: 'equal' | 'insert' | 'delete';
  lines: string[];
}
const CELLS_MAX = 4_000_000;

export function diff_lines(before: string, after: string): LinePart[] {
  const a = before.split('\n');
  const b = after.split('\n');
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const parts: LinePart[] = [];
  const add = (op: LinePart['op'], lines: string[]) => {
    if (!lines.length) return;
    if (parts.at(-1)?.op === op) parts.at(-1)!.lines.push(...lines);
    else parts.push({ op, lines: [...lines] });
  };
  add('equal', a.slice(0, head));
  middle(a.slice(head, a.length - tail), b.slice(head, b.length - tail), add);
  add('equal', a.slice(a.length - tail));
  return parts;
}

function middle(a: string[], b: string[], add: (op: LinePart['op'], lines: string[]) => void) {
  if (!a.length || !b.length || a.length * b.length > CELLS_MAX) {
    add('delete', a);
    add('insert', b);
    return;
  }
  // common[i][j]: the longest common subsequence of a from i and b from j
  const width = b.length + 1;
  const common = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      common[i * width + j] = a[i] === b[j] ? common[(i + 1) * width + j + 1] + 1 : Math.max(common[(i + 1) * width + j], common[i * width + j + 1]);
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) add('equal', [a[i++]]), j++;
    else if (j >= b.length || (i < a.length && common[(i + 1) * width + j] >= common[i * width + j + 1])) add('delete', [a[i++]]);
    else add('insert', [b[j++]]);
  }
}
