// Uploaded files, by OpenAI's door.
import { csrf_token, read_error } from '../api';

export async function upload_file(file: File): Promise<{ id: string }> {
  const form = new FormData();
  form.append('purpose', 'user_data');
  form.append('file', file, file.name);
  const response = await fetch('/v1/files', { method: 'POST', body: form, headers: { accept: 'application/json', 'x-csrf-token': csrf_token() ?? '' } });
  if (!response.ok) throw await read_error(response);
  return response.json();
}
