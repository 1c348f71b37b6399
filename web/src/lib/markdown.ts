// The Markdown that models write, parsed to a tree that Markdown.svelte renders as elements: no HTML is ever built from
// text, so nothing needs to be cleaned. What is half written while it streams shows as far as it goes.

export type Inline =
  | { kind: 'text' | 'code'; text: string }
  | { kind: 'strong' | 'em' | 'del'; children: Inline[] }
  | { kind: 'link'; href: string; children: Inline[] };

export type Block =
  | { kind: 'paragraph'; children: Inline[] }
  | { kind: 'heading'; level: number; children: Inline[] }
  | { kind: 'code'; language: string; text: string }
  | { kind: 'list'; ordered: boolean; start: number; items: Block[][] }
  | { kind: 'quote'; children: Block[] }
  | { kind: 'table'; head: Inline[][]; rows: Inline[][][] }
  | { kind: 'rule' };

const DEPTH_MAX = 8;
const INLINE =
  /(`+)([\s\S]*?[^`])\1(?!`)|\*\*(?=\S)([\s\S]*?\S)\*\*|__(?=\S)([\s\S]*?\S)__(?!\w)|~~(?=\S)([\s\S]*?\S)~~|\*(?=[^\s*])([\s\S]*?[^\s*])\*(?!\*)|(?<!\w)_(?=[^\s_])([\s\S]*?[^\s_])_(?!\w)|\[([^\][\n]{0,300})\]\(<?((?:[^()\s<>]|\([^()\s]{0,200}\)){1,1000})>?(?:\s+"[^"\n]{0,300}")?\)|(https?:\/\/[^\s<>"')\]]+[^\s<>"')\].,:;!?])/;

// Only addresses that open a page; `javascript:` and the like stay text.
function safe_href(href: string) {
  return /^(https?:|mailto:|#|\/)/i.test(href) ? href : null;
}

export function parse_inline(text: string, depth = 0): Inline[] {
  const out: Inline[] = [];
  let rest = text;
  while (rest) {
    const found = depth < DEPTH_MAX ? INLINE.exec(rest) : null;
    if (!found) break;
    if (found.index) out.push({ kind: 'text', text: rest.slice(0, found.index) });
    const [whole, , code, strong, strong2, del, em, em2, label, href, bare] = found;
    if (code !== undefined) out.push({ kind: 'code', text: code.trim() });
    else if (strong ?? strong2) out.push({ kind: 'strong', children: parse_inline((strong ?? strong2)!, depth + 1) });
    else if (del) out.push({ kind: 'del', children: parse_inline(del, depth + 1) });
    else if (em ?? em2) out.push({ kind: 'em', children: parse_inline((em ?? em2)!, depth + 1) });
    else if (bare) out.push({ kind: 'link', href: bare, children: [{ kind: 'text', text: bare }] });
    else if (safe_href(href)) out.push({ kind: 'link', href, children: parse_inline(label || href, depth + 1) });
    else out.push({ kind: 'text', text: whole });
    rest = rest.slice(found.index + whole.length);
  }
  if (rest) out.push({ kind: 'text', text: rest });
  return out;
}

const LIST = /^(\s*)(?:([-*+])|(\d{1,9})[.)])\s+(.*)$/;
const FENCE = /^\s{0,3}(```+|~~~+)\s*([^\s`]*)/;
const RULE = /^\s{0,3}([-*_])(?:\s*\1){2,}\s*$/;
const ROW = /^\s*\|.*\|\s*$/;
const cells = (line: string) => line.trim().replace(/^\||\|$/g, '').split(/(?<!\\)\|/).map((cell) => parse_inline(cell.trim()));

export function parse_markdown(text: string, depth = 0): Block[] {
  const lines = text.replace(/\r\n?/g, '\n').split('\n');
  const out: Block[] = [];
  let i = 0;
  let paragraph: string[] = [];
  const flush = () => {
    if (paragraph.length) out.push({ kind: 'paragraph', children: parse_inline(paragraph.join('\n')) });
    paragraph = [];
  };
  while (i < lines.length) {
    const line = lines[i];
    const fence = FENCE.exec(line);
    if (fence) {
      flush();
      const body: string[] = [];
      for (i++; i < lines.length && !lines[i].trim().startsWith(fence[1]); i++) body.push(lines[i]);
      i++;
      out.push({ kind: 'code', language: fence[2], text: body.join('\n') });
      continue;
    }
    const heading = /^\s{0,3}(#{1,6})\s+(.*?)\s*#*$/.exec(line);
    if (heading) {
      flush();
      out.push({ kind: 'heading', level: heading[1].length, children: parse_inline(heading[2]) });
      i++;
      continue;
    }
    if (RULE.test(line)) {
      flush();
      out.push({ kind: 'rule' });
      i++;
      continue;
    }
    if (/^\s{0,3}>/.test(line) && depth < DEPTH_MAX) {
      flush();
      const body: string[] = [];
      for (; i < lines.length && /^\s{0,3}>/.test(lines[i]); i++) body.push(lines[i].replace(/^\s{0,3}> ?/, ''));
      out.push({ kind: 'quote', children: parse_markdown(body.join('\n'), depth + 1) });
      continue;
    }
    if (ROW.test(line) && /^\s*\|[\s:|-]+\|\s*$/.test(lines[i + 1] ?? '')) {
      flush();
      const head = cells(line);
      const rows: Inline[][][] = [];
      for (i += 2; i < lines.length && ROW.test(lines[i]); i++) rows.push(cells(lines[i]));
      out.push({ kind: 'table', head, rows });
      continue;
    }
    const item = LIST.exec(line);
    if (item && depth < DEPTH_MAX) {
      flush();
      i = parse_list(lines, i, item, depth, out);
      continue;
    }
    if (line.trim()) paragraph.push(line);
    else flush();
    i++;
  }
  flush();
  return out;
}

// One list from line `i` on; its items' further lines are indented deeper than its mark. Returns the line after it.
function parse_list(lines: string[], i: number, first: RegExpExecArray, depth: number, out: Block[]) {
  const indent = first[1].length;
  const ordered = first[3] !== undefined;
  const items: Block[][] = [];
  while (i < lines.length) {
    const item = LIST.exec(lines[i]);
    if (!item || item[1].length !== indent || (item[3] !== undefined) !== ordered || RULE.test(lines[i])) break;
    const body = [item[4]];
    const inside = indent + 1;
    for (i++; i < lines.length; i++) {
      const blank = !lines[i].trim();
      const deep = lines[i].search(/\S/) >= inside;
      if (blank && !((lines[i + 1] ?? '').search(/\S/) >= inside)) break;
      if (!blank && !deep) break;
      body.push(lines[i].slice(Math.min(indent + 2, Math.max(0, lines[i].search(/\S/)))));
    }
    items.push(parse_markdown(body.join('\n'), depth + 1));
    // A blank line between two items does not end the list.
    const next = LIST.exec(lines[i + 1] ?? '');
    if (i < lines.length && !lines[i].trim() && next && next[1].length === indent) i++;
  }
  out.push({ kind: 'list', ordered, start: ordered ? Number(first[3]) : 1, items });
  return i;
}
