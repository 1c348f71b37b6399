/* JSON lines on standard error. A line is built on the stack and leaves in one write of at most
 * 4096 bytes, which pipes take whole: lines of different threads and processes never mix, and no
 * lock is needed. A value that does not fit is cut, and the line then says "cut":true. */
#include "base/log.h"
#include "base/clock.h"
#include "base/utf8.h"
#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define LOG_LINE_BYTES_MAX 4096 /* PIPE_BUF */
#define LOG_TAIL           ",\"cut\":true}\n"

static _Atomic int log_level = LOG_INFO;
static _Atomic int log_fd = STDERR_FILENO;

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

void log_set_fd(int fd) { atomic_store_explicit(&log_fd, fd, memory_order_relaxed); }

struct line {
    char text[LOG_LINE_BYTES_MAX];
    size_t n;
    bool cut;
};

/* Room stays for the tail and a closing quote. */
static size_t line_room(const struct line *line)
{
    size_t end = sizeof(line->text) - sizeof(LOG_TAIL) - 1;
    return line->n < end ? end - line->n : 0;
}

static bool line_add(struct line *line, const char *p, size_t n)
{
    if (n > line_room(line)) {
        line->cut = true;
        return false;
    }
    memcpy(line->text + line->n, p, n);
    line->n += n;
    return true;
}

static bool line_add_z(struct line *line, const char *z) { return line_add(line, z, strlen(z)); }

static bool line_add_character(struct line *line, struct str at, size_t length)
{
    unsigned char c = (unsigned char)at.p[0];
    if (length == 0)
        return line_add_z(line, "\\ufffd");
    if (c == '"' || c == '\\')
        return line_add(line, (char[]){'\\', (char)c}, 2);
    if (c == '\n')
        return line_add(line, "\\n", 2);
    if (c < 0x20 || c == 0x7f) {
        char escape[8];
        int n = snprintf(escape, sizeof(escape), "\\u%04x", c);
        return line_add(line, escape, (size_t)n);
    }
    return line_add(line, at.p, length);
}

static void line_add_text(struct line *line, struct str s)
{
    line->text[line->n++] = '"';
    for (size_t i = 0; i < s.n;) {
        uint32_t codepoint;
        struct str at = str_slice(s, i, s.n);
        size_t length = utf8_next(at, &codepoint);
        if (!line_add_character(line, at, length))
            break;
        i += MAX(length, (size_t)1);
    }
    line->text[line->n++] = '"';
}

static void line_add_field(struct line *line, const struct log_field *field)
{
    size_t before = line->n;
    char number[40];
    int n = 0;
    if (!line_add_z(line, ",\"") || !line_add_z(line, field->name) || !line_add_z(line, "\":") ||
        line_room(line) < 2) {
        line->n = before; /* not even the name fits */
        line->cut = true;
        return;
    }
    switch (field->type) {
    case LOG_FIELD_STR: line_add_text(line, field->s); return;
    case LOG_FIELD_I64: n = snprintf(number, sizeof(number), "%lld", (long long)field->i); break;
    case LOG_FIELD_BOOL: n = snprintf(number, sizeof(number), field->i ? "true" : "false"); break;
    case LOG_FIELD_F64:
        n = isfinite(field->f) ? snprintf(number, sizeof(number), "%.9g", field->f)
                               : snprintf(number, sizeof(number), "null");
        break;
    }
    if (!line_add(line, number, (size_t)n))
        line->n = before;
}

void log_event_fields(enum log_level level, const char *event, const struct log_field *fields)
{
    if ((int)level < atomic_load_explicit(&log_level, memory_order_relaxed))
        return;
    static const char *const level_names[] = {"debug", "info", "warn", "error"};
    struct line line;
    line.n = 0;
    line.cut = false;
    char time[CLOCK_ISO_BYTES_MAX];
    size_t time_n = clock_format_iso(clock_wall_ns(), 6, time);
    line_add_z(&line, "{\"time\":\"");
    line_add(&line, time, time_n);
    line_add_z(&line, "\",\"level\":\"");
    line_add_z(&line, level_names[level]);
    line_add_z(&line, "\",\"event\":\"");
    line_add_z(&line, event);
    line_add_z(&line, "\"");
    for (const struct log_field *field = fields; field->name; field++)
        line_add_field(&line, field);
    const char *tail = line.cut ? LOG_TAIL : "}\n";
    memcpy(line.text + line.n, tail, strlen(tail));
    line.n += strlen(tail);
    int fd = atomic_load_explicit(&log_fd, memory_order_relaxed);
    ssize_t written;
    do
        written = write(fd, line.text, line.n);
    while (written < 0 && errno == EINTR);
}
