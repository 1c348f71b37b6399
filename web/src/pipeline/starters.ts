// Where a new pipeline may begin. Each is whole: it can be run as soon as its model is one that is there.
import type { Definition } from './definition';

export interface Starter {
  title: string;
  text: string;
  definition: Definition | null; // null: the server's own beginning
}

const question = { id: 'start', type: 'start', title: 'Start', position: { x: 80, y: 160 }, config: { inputs: [{ name: 'query', title: 'Question', type: 'string', long: true, required: true }] } };
const ask = (id: string, title: string, x: number, y: number, content: string, system?: string) => ({
  id, type: 'llm', title, position: { x, y },
  config: { model: '', messages: [...(system ? [{ role: 'system', content: system }] : []), { role: 'user', content }] },
});
const answer = (id: string, x: number, y: number, text: string) => ({ id, type: 'answer', title: 'Answer', position: { x, y }, config: { text } });

export const starters: Starter[] = [
  {
    title: 'Question and answer',
    text: 'A model answers; the text is streamed.',
    definition: {
      schema: 1,
      description: 'Answers a question.',
      nodes: [question, ask('llm', 'LLM', 380, 160, '{{ start.query }}', 'Answer briefly and plainly.'), answer('answer', 680, 160, '{{ llm.text }}')],
      edges: [{ from: 'start', to: 'llm' }, { from: 'llm', to: 'answer' }],
    },
  },
  {
    title: 'Ask my documents',
    text: 'Finds passages in a collection; a model answers from them and says where they stand.',
    definition: {
      schema: 1,
      description: 'Answers from documents, with citations.',
      nodes: [
        question,
        { id: 'find', type: 'retrieval', title: 'Find passages', position: { x: 380, y: 160 }, config: { query: '{{ start.query }}', collections: [{ name: '' }], k: 6 } },
        ask('llm', 'Answer from them', 680, 160, '{{ start.query }}', 'Answer from the numbered passages below and from nothing else. After each statement write the numbers of the passages that support it, like [1] or [2][3]. If they do not hold the answer, say so.\n\n{{ find.text }}'),
        answer('answer', 980, 160, '{{ llm.text }}'),
      ],
      edges: [{ from: 'start', to: 'find' }, { from: 'find', to: 'llm' }, { from: 'llm', to: 'answer' }],
    },
  },
  {
    title: 'Sort, then answer',
    text: 'A classifier sends each kind of question its own way.',
    definition: {
      schema: 1,
      description: 'Sends each kind of question its own way.',
      nodes: [
        question,
        { id: 'kind', type: 'classifier', title: 'What is asked?', position: { x: 380, y: 160 }, config: { model: '', query: '{{ start.query }}', classes: [{ id: 'product', name: 'About the product' }, { id: 'other', name: 'Anything else' }] } },
        ask('expert', 'Expert', 680, 80, '{{ start.query }}', 'You know the product well. Answer precisely.'),
        answer('say', 980, 80, '{{ expert.text }}'),
        answer('decline', 680, 260, 'I can only help with questions about the product.'),
      ],
      edges: [{ from: 'start', to: 'kind' }, { from: 'kind', port: 'product', to: 'expert' }, { from: 'expert', to: 'say' }, { from: 'kind', port: 'other', to: 'decline' }],
    },
  },
  {
    title: 'Draft and improve',
    text: 'Two models in a row: one writes, one edits.',
    definition: {
      schema: 1,
      description: 'Writes a text, then improves it.',
      nodes: [question, ask('draft', 'Draft', 380, 160, 'Write about: {{ start.query }}'), ask('edit', 'Editor', 680, 160, 'Improve this text. Answer with the text only.\n\n{{ draft.text }}'), answer('answer', 980, 160, '{{ edit.text }}')],
      edges: [{ from: 'start', to: 'draft' }, { from: 'draft', to: 'edit' }, { from: 'edit', to: 'answer' }],
    },
  },
  {
    title: 'For each item',
    text: 'An iteration runs its steps for every item of a list.',
    definition: {
      schema: 1,
      description: 'Sums up each text of a list.',
      nodes: [
        { id: 'start', type: 'start', title: 'Start', position: { x: 80, y: 160 }, config: { inputs: [{ name: 'texts', title: 'Texts', type: 'array', required: true }] } },
        { id: 'each', type: 'iteration', title: 'Each text', position: { x: 380, y: 80 }, config: { list: 'start.texts', output: 'sum.text', parallel: 4 } },
        { ...ask('sum', 'Sum up', 40, 70, 'Sum up in one sentence:\n\n{{ each.item }}'), parent: 'each' },
        { id: 'end', type: 'end', title: 'End', position: { x: 840, y: 160 }, config: { outputs: [{ name: 'summaries', value: 'each.output', type: 'array' }] } },
      ],
      edges: [{ from: 'start', to: 'each' }, { from: 'each', to: 'end' }],
    },
  },
  {
    title: 'Ask a person first',
    text: 'Somebody approves the draft before it goes out.',
    definition: {
      schema: 1,
      description: 'A person approves what the model wrote.',
      nodes: [
        question,
        ask('draft', 'Draft', 380, 160, '{{ start.query }}'),
        { id: 'review', type: 'human', title: 'Review', position: { x: 680, y: 160 }, config: { text: 'May this go out?\n\n{{ draft.text }}', actions: [{ id: 'approve', name: 'Approve' }, { id: 'reject', name: 'Reject' }] } },
        answer('send', 980, 100, '{{ draft.text }}'),
        answer('keep', 980, 260, 'The answer was not approved.'),
      ],
      edges: [{ from: 'start', to: 'draft' }, { from: 'draft', to: 'review' }, { from: 'review', port: 'approve', to: 'send' }, { from: 'review', port: 'reject', to: 'keep' }],
    },
  },
  { title: 'Empty', text: 'A start, and nothing else.', definition: null },
];
