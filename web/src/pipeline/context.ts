// The editor that the parts of one canvas share.
import { getContext, setContext } from 'svelte';
import type { Editor } from './editor.svelte';

const KEY = Symbol('pipeline editor');

export const share_editor = (editor: () => Editor) => setContext(KEY, editor);
export const shared_editor = () => getContext<() => Editor>(KEY)();
