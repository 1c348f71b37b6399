// A collection's judged questions, what is measured with them, and files of them.
import type { Job } from '../api';

export interface Question {
  id?: string;
  text: string;
  relevant: Record<string, number>;
  state?: 'accepted' | 'proposed';
}
export interface QuestionSet {
  questions: Question[];
}
export interface Measured {
  mean: number;
  low: number;
  high: number;
}
export interface Evaluation {
  questions: number;
  k: number;
  ndcg_at_10: Measured;
  recall_at_k: Measured;
  mrr: Measured;
  latency_ms: { p50: number; p95: number };
  each: { id: string; ndcg_at_10: number; recall_at_k: number; reciprocal_rank: number }[];
}
export interface Tried {
  mode: string;
  fusion?: string;
  text_weight?: number;
  k1: number;
  b: number;
  rerank_depth: number;
  tokens_max: number;
  overlap_tokens: number;
  language: string;
  ndcg_at_10: Measured;
}
export interface Tuned {
  odd_questions: number;
  even_questions: number;
  tried: Tried[];
  winner: number;
  current_even: Measured;
  winner_even: Measured;
  difference_even: Measured;
  rebuild: boolean;
  patch: Record<string, unknown>;
}
export type TuneJob = Job & { params?: { collection?: string }; result?: Tuned };

export const score = (value: number) => value.toFixed(3);
export const signed = (value: number) => (value < 0 ? '−' : '+') + Math.abs(value).toFixed(3);

// A question a line as JSON ({"text", "relevant": {NAME: GAIN}}), or QUESTION<tab>NAME[, NAME…]. Lines that are
// neither are counted.
export function read_questions(text: string): { questions: Question[]; bad: number } {
  const questions: Question[] = [];
  let bad = 0;
  for (const line of text.split('\n').map((one) => one.trim())) {
    if (!line) continue;
    if (line.startsWith('{')) {
      try {
        const one = JSON.parse(line) as Question;
        if (typeof one.text === 'string' && one.text && typeof one.relevant === 'object' && one.relevant) questions.push(one);
        else bad++;
      } catch {
        bad++;
      }
      continue;
    }
    const [question, names] = line.split('\t');
    const relevant = Object.fromEntries((names ?? '').split(',').map((name) => name.trim()).filter(Boolean).map((name) => [name, 1]));
    if (question && Object.keys(relevant).length) questions.push({ text: question, relevant });
    else bad++;
  }
  return { questions, bad };
}
