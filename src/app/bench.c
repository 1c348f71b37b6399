/* `capstan bench`: options and report. */
#include "app/bench.h"
#include "app/command.h"
#include "base/clock.h"
#include "text/json_writer.h"
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define BODY_BYTES_MAX (64 * 1024 * 1024)

/* ---- the request ---- */

/* A chat request of `bytes` bytes; the text fills it up. */
static struct str chat_body(struct arena *arena, struct str model, bool stream, size_t bytes)
{
    static const char format[] = "{\"model\":\"%.*s\",\"stream\":%s,\"messages\":[{\"role\":"
                                 "\"user\",\"content\":\"%.*s\"}]}";
    struct str bare = arena_printf(arena, format, STR_ARG(model), stream ? "true" : "false", 0, "");
    size_t fill = bytes > bare.n ? bytes - bare.n : 1;
    char *text = arena_alloc(arena, fill);
    if (!text || !bare.p)
        return STR_EMPTY;
    for (size_t i = 0; i < fill; i++)
        text[i] = "All work and no play makes Jack a dull boy. "[i % 44];
    return arena_printf(arena, format, STR_ARG(model), stream ? "true" : "false", (int)fill, text);
}

/* "@FILE", or the text itself. */
static struct str body_of(const char *option, struct arena *arena)
{
    if (option[0] != '@')
        return str_from(option);
    int fd = open(option + 1, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return STR_EMPTY;
    char *p = arena_alloc(arena, BODY_BYTES_MAX / 2);
    ssize_t n = p ? read(fd, p, BODY_BYTES_MAX / 2) : -1;
    close(fd);
    return n >= 0 ? str_make(p, (size_t)n) : STR_EMPTY;
}

static bool add_header(struct bench_options *options, struct str name, struct str value)
{
    if (options->header_count == COUNT_OF(options->headers) || !http_is_token(name))
        return false;
    options->headers[options->header_count++] = (struct http_header){name, value};
    return true;
}

static bool add_headers(struct bench_options *options, const char **list)
{
    for (; list && *list; list++) {
        struct str rest = str_from(*list), name;
        if (!str_split(&rest, ':', &name) || !add_header(options, name, str_trim(rest)))
            return false;
    }
    return true;
}

static bool read_pids(struct bench_options *options, const char **list)
{
    for (; list && *list; list++) {
        struct str rest = str_from(*list), part;
        while (str_split(&rest, ',', &part)) {
            uint64_t pid;
            if (str_to_u64(part, &pid) != RC_OK || options->pid_count == BENCH_PIDS_MAX)
                return false;
            options->pids[options->pid_count++] = (pid_t)pid;
        }
    }
    return true;
}

/* ---- the report ---- */

static double ms(uint64_t ns) { return (double)ns / (double)NS_PER_MS; }

static const struct {
    const char *name;
    double share;
} percentiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}};

static void put_histogram(struct json_writer *w, const char *name, const struct histogram *values)
{
    json_key(w, name);
    json_begin_object(w);
    json_put_double(w, "mean", histogram_mean(values) / (double)NS_PER_MS);
    for (size_t i = 0; i < COUNT_OF(percentiles); i++)
        json_put_double(w, percentiles[i].name,
                        ms(histogram_percentile(values, percentiles[i].share)));
    json_put_double(w, "max", ms(values->max));
    json_end_object(w);
}

static double per(double amount, uint64_t count) { return count ? amount / (double)count : 0; }

static int64_t cpu_ns(const struct bench_result *result)
{
    return result->after.cpu_ns - result->before.cpu_ns;
}

static void print_json(const struct bench_options *options, const struct bench_result *result)
{
    struct buf out;
    buf_init(&out, 64 * 1024);
    struct json_writer w = json_writer_to(&out);
    double seconds = (double)result->measured_ns / (double)NS_PER_S;
    json_begin_object(&w);
    json_put_string(&w, "url", options->url_text);
    json_put_double(&w, "rate_asked", options->rate);
    json_put_double(&w, "rate", (double)result->completed / seconds);
    json_put_double(&w, "seconds", seconds);
    json_put_uint(&w, "completed", result->completed);
    json_put_uint(&w, "failed", result->failed);
    json_put_uint(&w, "not_2xx", result->not_2xx);
    json_put_uint(&w, "unanswered", result->unanswered);
    json_put_uint(&w, "connects", result->connects);
    json_put_uint(&w, "events", result->events);
    json_put_uint(&w, "body_bytes", result->body_bytes);
    put_histogram(&w, "latency_ms", &result->latency_ns);
    put_histogram(&w, "first_byte_ms", &result->first_byte_ns);
    if (options->pid_count) {
        double us = (double)cpu_ns(result) / (double)NS_PER_US;
        json_put_double(&w, "cpu_us_per_request", per(us, result->completed));
        if (result->events)
            json_put_double(&w, "cpu_us_per_event", per(us, result->events));
        json_put_double(&w, "cpu_cores", (double)cpu_ns(result) / (double)result->measured_ns);
        json_put_int(&w, "resident_bytes", result->after.resident_bytes);
        json_put_int(&w, "resident_bytes_max", result->resident_bytes_max);
    }
    if (result->first_error[0])
        json_put_text(&w, "first_error", result->first_error);
    json_end_object(&w);
    printf("%.*s\n", STR_ARG(buf_str(&out)));
    buf_fini(&out);
}

static void print_histogram(const char *name, const struct histogram *values)
{
    printf("%-12s mean %.3f", name, histogram_mean(values) / (double)NS_PER_MS);
    for (size_t i = 0; i < COUNT_OF(percentiles); i++)
        printf("  %s %.3f", percentiles[i].name,
               ms(histogram_percentile(values, percentiles[i].share)));
    printf("  max %.3f ms\n", ms(values->max));
}

static void print_text(const struct bench_options *options, const struct bench_result *result)
{
    double seconds = (double)result->measured_ns / (double)NS_PER_S;
    printf("%llu requests in %.1f s: %.1f/s, %llu failed, %llu not 2xx, %llu unanswered, "
           "%llu connections\n",
           (unsigned long long)result->completed, seconds, (double)result->completed / seconds,
           (unsigned long long)result->failed, (unsigned long long)result->not_2xx,
           (unsigned long long)result->unanswered, (unsigned long long)result->connects);
    print_histogram("latency", &result->latency_ns);
    print_histogram("first byte", &result->first_byte_ns);
    if (result->events)
        printf("events       %llu, %.1f/s\n", (unsigned long long)result->events,
               (double)result->events / seconds);
    if (options->pid_count) {
        double us = (double)cpu_ns(result) / (double)NS_PER_US;
        printf("server       %.2f us CPU a request", per(us, result->completed));
        if (result->events)
            printf(", %.2f us an event", per(us, result->events));
        printf(", %.2f cores, %.1f MB resident (at most %.1f)\n",
               (double)cpu_ns(result) / (double)result->measured_ns,
               (double)result->after.resident_bytes / 1e6,
               (double)result->resident_bytes_max / 1e6);
    }
    if (result->first_error[0])
        printf("first error  %s\n", result->first_error);
}

/* ---- the command ---- */

struct texts {
    const char *rate, *parallel, *connections, *duration, *warmup, *timeout, *body, *bytes, *model,
        *key, *ca_file, *method;
    const char **headers, **pids;
    bool stream, http2, json;
};

static bool read_numbers(struct bench_options *options, const struct texts *texts)
{
    return str_to_double(str_from(texts->rate), &options->rate) == RC_OK && options->rate >= 0 &&
           str_to_i64(str_from(texts->parallel), &options->parallel) == RC_OK &&
           str_to_i64(str_from(texts->connections), &options->connections_max) == RC_OK &&
           clock_parse_duration(str_from(texts->duration), &options->duration_ns) == RC_OK &&
           clock_parse_duration(str_from(texts->warmup), &options->warmup_ns) == RC_OK &&
           clock_parse_duration(str_from(texts->timeout), &options->timeout_ns) == RC_OK &&
           options->duration_ns > 0 && options->parallel > 0;
}

static bool read_request(struct bench_options *options, const struct texts *texts,
                         struct arena *arena)
{
    uint64_t bytes;
    if (str_to_u64(str_from(texts->bytes), &bytes) != RC_OK || bytes > BODY_BYTES_MAX / 4)
        return false;
    bool get = texts->method && strcmp(texts->method, "GET") == 0;
    if (texts->body)
        options->body = body_of(texts->body, arena);
    else if (!get)
        options->body = chat_body(arena, str_from(texts->model), texts->stream, (size_t)bytes);
    options->method = str_from(texts->method ? texts->method : "POST");
    if (!get &&
        (!options->body.p || !add_header(options, STR("content-type"), STR("application/json"))))
        return false;
    if (texts->key)
        add_header(options, STR("authorization"), arena_printf(arena, "Bearer %s", texts->key));
    return add_headers(options, texts->headers);
}

int command_bench(int argc, char **argv)
{
    struct texts texts = {.rate = "0",
                          .parallel = "16",
                          .connections = "0",
                          .duration = "10s",
                          .warmup = "1s",
                          .timeout = "30s",
                          .bytes = "1024",
                          .model = "gpt-mock",
                          .key = getenv("CAPSTAN_KEY")};
    const struct option_spec specs[] = {
        {.name = "rate", .value = &texts.rate},
        {.name = "parallel", .value = &texts.parallel},
        {.name = "connections", .value = &texts.connections},
        {.name = "duration", .value = &texts.duration},
        {.name = "warmup", .value = &texts.warmup},
        {.name = "timeout", .value = &texts.timeout},
        {.name = "body", .value = &texts.body},
        {.name = "bytes", .value = &texts.bytes},
        {.name = "model", .value = &texts.model},
        {.name = "key", .value = &texts.key},
        {.name = "ca-file", .value = &texts.ca_file},
        {.name = "method", .value = &texts.method},
        {.name = "header", .list = &texts.headers},
        {.name = "pid", .list = &texts.pids},
        {.name = "stream", .flag = &texts.stream},
        {.name = "http2", .flag = &texts.http2},
        {.name = "json", .flag = &texts.json},
    };
    if (!command_parse_options("bench", &argc, argv, specs, COUNT_OF(specs)))
        return EXIT_USAGE;
    struct err err = {0};
    struct bench_options options = {.http2 = texts.http2, .ca_file = str_from(texts.ca_file)};
    struct arena arena;
    arena_init(&arena, BODY_BYTES_MAX);
    if (argc != 2 || url_parse(str_from(argv[1]), &options.url, &err) != RC_OK)
        return command_usage_error("bench", "one URL is needed%s%s", argc == 2 ? ": " : "",
                                   err.message);
    options.url_text = str_from(argv[1]);
    if (!read_numbers(&options, &texts) || !read_request(&options, &texts, &arena) ||
        !read_pids(&options, texts.pids))
        return command_usage_error("bench", "an option's value does not fit");
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    static struct bench_result result;
    if (bench_run(&options, &result, &err) != RC_OK) {
        fprintf(stderr, "capstan bench: %s\n", err.message);
        return EXIT_FAILED;
    }
    if (texts.json)
        print_json(&options, &result);
    else
        print_text(&options, &result);
    arena_fini(&arena);
    return result.completed && !result.failed && !result.not_2xx ? EXIT_OK : EXIT_FAILED;
}
