/* The program's own log: one JSON line per event on standard error, with a stable `event` key.
 * Lines are written whole; any thread. Leaf functions return errors instead of logging. */
#pragma once
#include "base/str.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

void log_set_level(enum log_level level);
void log_set_fd(int fd);

/* Fields for log_event; end with LOG_END. */
struct log_field {
    const char *name; /* NULL ends the list */
    enum { LOG_FIELD_STR, LOG_FIELD_I64, LOG_FIELD_F64, LOG_FIELD_BOOL } type;
    struct str s;
    int64_t i;
    double f;
};

#define LOG_STR(key, value) ((struct log_field){.name = (key), .type = LOG_FIELD_STR, .s = (value)})
#define LOG_Z(key, value)   LOG_STR(key, str_from(value))
#define LOG_I64(key, value) ((struct log_field){.name = (key), .type = LOG_FIELD_I64, .i = (value)})
#define LOG_F64(key, value) ((struct log_field){.name = (key), .type = LOG_FIELD_F64, .f = (value)})
#define LOG_BOOL(key, value)                                                                       \
    ((struct log_field){.name = (key), .type = LOG_FIELD_BOOL, .i = (value)})

void log_event_fields(enum log_level level, const char *event, const struct log_field *fields);
/* log_event(LOG_INFO, "server_started", LOG_Z("address", a), LOG_I64("loops", n)); */
#define log_event(level, event, ...)                                                               \
    log_event_fields((level), (event),                                                             \
                     (struct log_field[]){__VA_ARGS__ __VA_OPT__(, ){.name = NULL}})
