// CodeMirror as the console uses it: made by ui/CodeEditor.svelte, in a chunk of its own. Tab leaves the editor, as it
// leaves every other field (Mod-] and Mod-[ indent). Its styles carry the page's nonce, which the policy asks for.
import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap, type CompletionContext } from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap } from '@codemirror/commands';
import { HighlightStyle, bracketMatching, syntaxHighlighting, type LanguageSupport } from '@codemirror/language';
import { Compartment, EditorState, type Extension } from '@codemirror/state';
import { Decoration, EditorView, MatchDecorator, ViewPlugin, keymap, lineNumbers, placeholder, type DecorationSet, type ViewUpdate } from '@codemirror/view';
import { tags } from '@lezer/highlight';

export type Language = 'template' | 'javascript' | 'python' | 'json';
export interface Setup {
  parent: HTMLElement;
  value: string;
  language: Language;
  attributes: Record<string, string>; // id, aria-label and the like
  hint: string;
  rows: number;
  read_only: boolean;
  variables: () => string[]; // offered within {{ … }}
  onchange: (value: string) => void;
}
export interface Made {
  view: EditorView;
  set(value: string): void;
  lock(read_only: boolean): void;
  language(next: Language): void;
  attributes(next: Record<string, string>): void;
}

const colours = HighlightStyle.define([
  { tag: [tags.keyword, tags.controlKeyword, tags.moduleKeyword, tags.operatorKeyword, tags.definitionKeyword], color: 'var(--c5)' },
  { tag: [tags.string, tags.special(tags.string)], color: 'var(--ok)' },
  { tag: [tags.number, tags.bool, tags.null, tags.atom], color: 'var(--warn)' },
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: 'var(--c2)' },
  { tag: [tags.function(tags.variableName), tags.definition(tags.function(tags.variableName))], color: 'var(--accent)' },
  { tag: [tags.comment, tags.lineComment, tags.blockComment], color: 'var(--text-3)', fontStyle: 'italic' },
  { tag: tags.invalid, color: 'var(--bad)' },
]);

const look = EditorView.theme({
  '&': { border: '1px solid var(--line-strong)', borderRadius: 'var(--r2)', background: 'var(--surface)', color: 'var(--text)', fontSize: 'var(--t1)' },
  '&.cm-focused': { outline: '2px solid var(--ring)', outlineOffset: '-1px' },
  '.cm-scroller': { fontFamily: 'var(--mono)', lineHeight: '1.5', maxHeight: '28rem', overflow: 'auto' },
  '.cm-content': { padding: 'var(--s2) 0', caretColor: 'var(--text)' },
  '.cm-line': { padding: '0 var(--s2)' },
  '.cm-gutters': { background: 'var(--surface-2)', color: 'var(--text-3)', border: '0', borderRadius: 'var(--r2) 0 0 var(--r2)' },
  '.cm-placeholder': { color: 'var(--text-3)' },
  '.cm-matchingBracket, &.cm-focused .cm-matchingBracket': { background: 'var(--accent-soft)', outline: '1px solid var(--accent)' },
  '.cm-template-value': { color: 'var(--accent)', background: 'var(--accent-soft)', borderRadius: 'var(--r1)' },
  '.cm-template-control': { color: 'var(--c5)' },
  '.cm-template-comment': { color: 'var(--text-3)', fontStyle: 'italic' },
  '.cm-tooltip': { border: '0', borderRadius: 'var(--r2)', background: 'var(--surface)', color: 'var(--text)', boxShadow: 'var(--shadow-2)' },
  '.cm-tooltip-autocomplete > ul > li': { padding: '0.125rem 0.5rem', fontFamily: 'var(--mono)' },
  '.cm-tooltip-autocomplete > ul > li[aria-selected]': { background: 'var(--accent-soft)', color: 'var(--text)' },
});

// {{ value }}, {{#section}}, {% statement %}, {# comment #}: marked, not parsed; the server says what is wrong.
const matcher = new MatchDecorator({
  regexp: /\{#.*?#\}|\{%.*?%\}|\{\{\{?.*?\}?\}\}|@@@langfusePrompt:.*?@@@/g,
  decoration: ([text]) => {
    const comment = text.startsWith('{#') || /^\{\{\s*!/.test(text);
    const control = text.startsWith('{%') || /^\{\{\s*[#^/>]/.test(text);
    return Decoration.mark({ class: comment ? 'cm-template-comment' : control ? 'cm-template-control' : 'cm-template-value' });
  },
});
const template = ViewPlugin.fromClass(
  class {
    marks: DecorationSet;
    constructor(view: EditorView) {
      this.marks = matcher.createDeco(view);
    }
    update(update: ViewUpdate) {
      this.marks = matcher.updateDeco(update, this.marks);
    }
  },
  { decorations: (plugin) => plugin.marks },
);
const complete_variables = (names: () => string[]) => (context: CompletionContext) => {
  const before = context.matchBefore(/\{\{\s*[#^]?[\w.]*/);
  if (!before) return null;
  const typed = /[\w.]*$/.exec(before.text)![0];
  const closed = /^\s*\}\}/.test(context.state.sliceDoc(context.pos, context.pos + 20));
  return {
    from: context.pos - typed.length,
    options: names().map((label) => ({ label, type: 'variable', apply: closed ? label : before.text.includes('{{ ') ? `${label} }}` : `${label}}}` })),
    validFor: /^[\w.]*$/,
  };
};

async function syntax(language: Language, variables: () => string[]): Promise<Extension> {
  if (language === 'template') return [template, EditorView.lineWrapping, autocompletion({ override: [complete_variables(variables)], icons: false })];
  const support: LanguageSupport =
    language === 'javascript'
      ? (await import('@codemirror/lang-javascript')).javascript()
      : language === 'python'
        ? (await import('@codemirror/lang-python')).python()
        : (await import('@codemirror/lang-json')).json();
  return [support, lineNumbers(), autocompletion({ icons: false })];
}

export async function make_editor(setup: Setup): Promise<Made> {
  const nonce = document.querySelector<HTMLElement>('meta[property="csp-nonce"]')?.nonce;
  const attributes = new Compartment();
  const locked = new Compartment();
  const words = new Compartment();
  let quiet = false;
  const named = (given: Record<string, string>) => EditorView.contentAttributes.of(given);
  const lock = (read_only: boolean) => [EditorState.readOnly.of(read_only), EditorView.editable.of(!read_only)];
  const view = new EditorView({
    parent: setup.parent,
    state: EditorState.create({
      doc: setup.value,
      extensions: [
        nonce ? EditorView.cspNonce.of(nonce) : [],
        look,
        EditorView.theme({ '.cm-content': { minHeight: `${setup.rows * 1.5 + 1}em` } }),
        history(),
        bracketMatching(),
        closeBrackets(),
        syntaxHighlighting(colours),
        placeholder(setup.hint),
        words.of(await syntax(setup.language, setup.variables)),
        attributes.of(named(setup.attributes)),
        locked.of(lock(setup.read_only)),
        keymap.of([...closeBracketsKeymap, ...completionKeymap, ...historyKeymap, ...defaultKeymap]),
        EditorView.updateListener.of((update) => {
          if (update.docChanged && !quiet) setup.onchange(update.state.doc.toString());
        }),
      ],
    }),
  });
  return {
    view,
    set(value) {
      if (value === view.state.doc.toString()) return;
      quiet = true;
      view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: value } });
      quiet = false;
    },
    lock: (read_only) => view.dispatch({ effects: locked.reconfigure(lock(read_only)) }),
    language: async (next) => view.dispatch({ effects: words.reconfigure(await syntax(next, setup.variables)) }),
    attributes: (next) => view.dispatch({ effects: attributes.reconfigure(named(next)) }),
  };
}
