/* Subtitles (SubRip, WebVTT): cues joined into paragraphs of speech, each with the time at which it
 * begins. A pause of two seconds, or some length at a sentence's end, begins a new one. */
#include "knowledge/extract_reader.h"
#include <stdio.h>

#define PAUSE_MS            2000
#define PARAGRAPH_BYTES_MIN 400
#define PARAGRAPH_BYTES_MAX 1500

struct subtitles {
    struct reader *reader;
    struct buf text;
    int64_t begin_ms, end_ms; /* of the paragraph */
};

/* "00:01:02,500", "01:02.500"; false: no time. */
static bool parse_time(struct str text, int64_t *ms)
{
    int64_t value = 0, part = 0;
    size_t i = 0, colons = 0;
    for (; i < text.n && text.p[i] != ',' && text.p[i] != '.'; i++) {
        if (text.p[i] == ':') {
            value = (value + part) * 60;
            part = 0;
            colons++;
        } else if (text.p[i] >= '0' && text.p[i] <= '9' && part < 100000) {
            part = part * 10 + (text.p[i] - '0');
        } else {
            return false;
        }
    }
    uint64_t fraction = 0;
    bool ok = colons >= 1 && colons <= 2 && i + 4 <= text.n &&
              str_to_u64(str_slice(text, i + 1, i + 4), &fraction) == RC_OK;
    *ms = (value + part) * 1000 + (int64_t)fraction;
    return ok;
}

static bool parse_times(struct str line, int64_t *begin_ms, int64_t *end_ms)
{
    ssize_t arrow = str_find(line, STR("-->"));
    if (arrow < 0)
        return false;
    struct str end = str_trim(str_slice(line, (size_t)arrow + 3, line.n));
    ssize_t space = str_find_char(end, ' '); /* WebVTT's settings follow */
    return parse_time(str_trim(str_slice(line, 0, (size_t)arrow)), begin_ms) &&
           parse_time(space < 0 ? end : str_slice(end, 0, (size_t)space), end_ms);
}

static enum rc flush(struct subtitles *subtitles)
{
    enum rc rc = RC_OK;
    if (buf_len(&subtitles->text)) {
        int64_t s = subtitles->begin_ms / 1000;
        struct str text = arena_printf(subtitles->reader->arena, "[%02lld:%02lld:%02lld] %.*s",
                                       (long long)(s / 3600), (long long)(s / 60 % 60),
                                       (long long)(s % 60), STR_ARG(buf_str(&subtitles->text)));
        rc = text.p ? reader_add(subtitles->reader, BLOCK_TEXT, 0, text, NULL)
                    : reader_no_memory(subtitles->reader);
    }
    buf_clear(&subtitles->text);
    return rc;
}

/* Without <i>, <c.colour>, <00:00:01.000> and {\an8}; a voice <v Ann> becomes "Ann: ". */
static enum rc append_line(struct subtitles *subtitles, struct str line)
{
    enum rc rc = buf_len(&subtitles->text) ? buf_append_char(&subtitles->text, ' ') : RC_OK;
    for (size_t i = 0; i < line.n && rc == RC_OK; i++) {
        char close = line.p[i] == '<' ? '>' : line.p[i] == '{' ? '}' : 0;
        ssize_t end = close ? str_find_char(str_slice(line, i, line.n), close) : -1;
        if (end < 0) {
            rc = buf_append_char(&subtitles->text, line.p[i]);
            continue;
        }
        struct str tag = str_slice(line, i, i + (size_t)end);
        if (str_starts(tag, STR("<v ")))
            rc = buf_append(&subtitles->text, str_slice(tag, 3, tag.n));
        if (str_starts(tag, STR("<v ")) && rc == RC_OK)
            rc = buf_append(&subtitles->text, STR(": "));
        i += (size_t)end;
    }
    return rc;
}

static bool ends_sentence(struct str text) { return text.n && strchr(".!?", text.p[text.n - 1]); }

static enum rc begin_cue(struct subtitles *subtitles, int64_t begin_ms, int64_t end_ms)
{
    struct str text = str_trim(buf_str(&subtitles->text));
    bool full =
        text.n >= PARAGRAPH_BYTES_MAX || (text.n >= PARAGRAPH_BYTES_MIN && ends_sentence(text));
    enum rc rc = RC_OK;
    if (full || begin_ms - subtitles->end_ms > PAUSE_MS)
        rc = flush(subtitles);
    if (!buf_len(&subtitles->text))
        subtitles->begin_ms = begin_ms;
    subtitles->end_ms = end_ms;
    return rc;
}

enum rc read_subtitles(struct reader *reader, struct str bytes)
{
    struct str text, line;
    struct subtitles subtitles = {.reader = reader};
    enum rc rc = charset_decode(reader, bytes, STR_EMPTY, &text);
    bool in_cue = false;
    buf_init(&subtitles.text, (size_t)reader->limits.text_bytes);
    while (rc == RC_OK && str_split(&text, '\n', &line)) {
        int64_t begin_ms, end_ms;
        line = str_trim(line);
        if (parse_times(line, &begin_ms, &end_ms)) {
            rc = begin_cue(&subtitles, begin_ms, end_ms);
            in_cue = true;
        } else if (!line.n) {
            in_cue = false; /* numbers, notes and styles stand between cues */
        } else if (in_cue) {
            rc = append_line(&subtitles, line);
        }
    }
    if (rc == RC_OK)
        rc = flush(&subtitles);
    if (rc == RC_OK && !reader->block_count)
        rc = err_set(reader->err, ERR_INVALID, "the file has no subtitles");
    buf_fini(&subtitles.text);
    return rc == RC_LIMIT && !reader->err->code ? reader_no_memory(reader) : rc;
}
