import { mount } from 'svelte';
import App from './App.svelte';
import { start_keyboard } from './lib/keyboard.svelte';
import { start_router } from './lib/router.svelte';
import { load_session } from './lib/session.svelte';
import './tokens.css';
import './base.css';

start_router();
start_keyboard();
load_session();
mount(App, { target: document.getElementById('app')! });
