/* The server's side of extraction: looks at the file's first bytes, starts the confined reader, and
 * checks what it says. Nothing here parses a document.
 *
 * A PDF takes two children, connected by a pipe: pdftotext, which may read the system's libraries
 * and fonts, and our reader of what it prints. A PDF that holds pictures of pages and no text goes
 * to tesseract, where it is installed (extract_ocr.c). */
#include "knowledge/extract.h"
#include "base/clock.h"
#include "io/sandbox.h"
#include "knowledge/extract_reader.h"
#include "knowledge/extract_run.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define HEAD_BYTES         (256 * 1024) /* looked at to tell the format */
#define TAIL_BYTES         (64 * 1024)  /* a zip archive's list of names is at its end */
#define CHILD_MEMORY_BYTES (1536ll << 20)
#define TOOL_MEMORY_BYTES  (1024ll << 20)
#define ERROR_BYTES_MAX    2048
#define PDFTOTEXT          "/usr/bin/pdftotext"

static enum rc open_input(const char *path, const struct extract_limits *limits, int *fd,
                          struct err *err)
{
    struct stat st;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (*fd < 0 || fstat(*fd, &st) != 0)
        return err_set(err, ERR_INVALID, "the file cannot be opened: %s", strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INVALID, "not a regular file");
    if (st.st_size > limits->input_bytes)
        return err_set(err, ERR_TOO_LARGE, "the file has %lld bytes, at most %lld are read",
                       (long long)st.st_size, (long long)limits->input_bytes);
    return RC_OK;
}

static enum rc detect(int fd, struct str file_name, struct str content_type, struct arena *arena,
                      enum extract_format *format, struct err *err)
{
    char *head = arena_alloc(arena, HEAD_BYTES + TAIL_BYTES);
    if (!head)
        return err_set(err, ERR_TOO_LARGE, "no memory to look at the file");
    ssize_t n = pread(fd, head, HEAD_BYTES, 0);
    off_t end = lseek(fd, 0, SEEK_END);
    lseek(fd, 0, SEEK_SET);
    if (n < 0 || end < 0)
        return err_set(err, ERR_INVALID, "the file cannot be read: %s", strerror(errno));
    if (end > HEAD_BYTES) {
        off_t from = MAX(end - TAIL_BYTES, HEAD_BYTES);
        ssize_t more = pread(fd, head + n, TAIL_BYTES, from);
        n += MAX(more, 0);
    }
    *format = extract_detect(str_make(head, (size_t)n), file_name, content_type);
    if (*format == EXTRACT_UNKNOWN)
        return err_set(err, ERR_MEDIA_TYPE, "no reader for this kind of file");
    return RC_OK;
}

/* What the child says by its status, where its stream says nothing. */
static enum rc child_failed(const struct sandbox_result *result, enum rc rc, struct err *err)
{
    if (rc == RC_OK)
        return err_set(err, ERR_INVALID, "its reader gave up without a word (status %d)",
                       WEXITSTATUS(result->status));
    if (WIFSIGNALED(result->status) &&
        (WTERMSIG(result->status) == SIGABRT || WTERMSIG(result->status) == SIGSEGV))
        return err_set(err, ERR_INVALID, "the file made its reader crash (%s)",
                       WTERMSIG(result->status) == SIGABRT ? "aborted" : "memory fault");
    return rc;
}

static bool is_cancelled(void *arg)
{
    const struct extract_limits *limits = arg;
    return __atomic_load_n(limits->cancelled, __ATOMIC_RELAXED);
}

void extract_watch_cancel(struct sandbox_command *command, const struct extract_limits *limits)
{
    command->cancelled = limits->cancelled ? is_cancelled : NULL;
    command->arg = (void *)limits;
}

enum rc extract_run(const struct extract_input *input, struct arena *arena, struct extracted *out,
                    struct sandbox_result *result, struct err *err)
{
    const struct extract_limits *limits = input->limits;
    char numbers[5][24], name[256];
    const int64_t values[] = {input->format, limits->input_bytes, limits->text_bytes,
                              limits->blocks, limits->pages};
    for (size_t i = 0; i < COUNT_OF(values); i++)
        snprintf(numbers[i], sizeof(numbers[i]), "%lld", (long long)values[i]);
    snprintf(name, sizeof(name), "%.*s", STR_ARG(str_slice(input->file_name, 0, 200)));
    const char *argv[] = {"/proc/self/exe",
                          EXTRACT_CHILD_COMMAND,
                          name,
                          numbers[0],
                          numbers[1],
                          numbers[2],
                          numbers[3],
                          numbers[4],
                          NULL};
    const char *envp[] = {"LC_ALL=C", NULL};
    struct sandbox_command command = {
        .argv = argv,
        .envp = envp,
        .confinement = {.profile = SANDBOX_EXTRACTOR,
                        .cpu_s_max = limits->cpu_s,
                        .address_bytes_max = CHILD_MEMORY_BYTES + limits->input_bytes,
                        .memory_bytes_max = CHILD_MEMORY_BYTES,
                        .open_files_max = 64},
        .input = input->bytes,
        .input_fd = input->fd,
        .feeder = input->feeder,
        .wall_ns = limits->wall_s * NS_PER_S,
        .output_bytes_max = extract_stream_bytes_max(limits),
        .error_bytes_max = ERROR_BYTES_MAX,
    };
    extract_watch_cancel(&command, limits);
    enum rc rc = sandbox_run(&command, arena, result, err);
    if (rc != RC_OK || !result->output.n)
        return child_failed(result, rc, err);
    return extract_stream_read(result->output, limits, out, err);
}

/* Its own words, without the file's name, which is "-". */
static enum rc pdf_failed(const struct sandbox_result *result, struct err *err)
{
    struct str said = str_trim(result->feeder_error);
    if (str_find(said, STR("Incorrect password")) >= 0)
        return err_set(err, ERR_INVALID, "the PDF is encrypted and needs a password");
    ssize_t lf = str_find_char(said, '\n');
    if (lf >= 0)
        said = str_slice(said, 0, (size_t)lf);
    return err_set(err, ERR_INVALID, "the PDF cannot be read: %.*s",
                   STR_ARG(said.n ? str_slice(said, 0, 200) : STR("pdftotext failed")));
}

static enum rc extract_pdf(int fd, struct extract_input *input, struct arena *arena,
                           struct extracted *out, struct err *err)
{
    if (access(PDFTOTEXT, X_OK) != 0)
        return err_set(err, ERR_MEDIA_TYPE,
                       "PDF files need pdftotext: install the package poppler-utils");
    char pages[24];
    snprintf(pages, sizeof(pages), "%lld", (long long)input->limits->pages);
    const char *argv[] = {PDFTOTEXT, "-q",           "-l", pages, "-enc",
                          "UTF-8",   "-bbox-layout", "-",  "-",   NULL};
    const char *envp[] = {"LC_ALL=C", NULL};
    struct sandbox_command tool = {
        .argv = argv,
        .envp = envp,
        .confinement = {.profile = SANDBOX_CODE,
                        .cpu_s_max = input->limits->cpu_s,
                        .memory_bytes_max = TOOL_MEMORY_BYTES,
                        .file_bytes_max = 1,
                        .open_files_max = 64},
        .input_fd = fd,
    };
    struct sandbox_result result;
    /* Its print-out may be many times as large as the file. */
    struct extract_limits limits = *input->limits;
    limits.input_bytes = 512ll << 20;
    input->limits = &limits;
    input->format = EXTRACT_PDF_LAYOUT;
    input->feeder = &tool;
    enum rc rc = extract_run(input, arena, out, &result, err);
    bool tool_failed = result.feeder_status != 0 && !WIFSIGNALED(result.feeder_status);
    if (tool_failed && rc != RC_DENIED && rc != RC_CANCELLED)
        rc = pdf_failed(&result, err);
    return rc;
}

enum rc extract_file(const char *path, struct str file_name, struct str content_type,
                     const struct extract_limits *given, struct arena *arena, struct extracted *out,
                     struct err *err)
{
    struct extract_limits limits;
    extract_limits_fill(&limits, given);
    *out = (struct extracted){0};
    int fd;
    enum extract_format format;
    enum rc rc = open_input(path, &limits, &fd, err);
    if (rc == RC_OK)
        rc = detect(fd, file_name, content_type, arena, &format, err);
    if (rc == RC_OK) {
        struct extract_input input = {.format = format, .file_name = file_name, .limits = &limits};
        struct sandbox_result result;
        if (format == EXTRACT_PDF) {
            rc = extract_pdf(fd, &input, arena, out, err);
            input.limits = &limits;
            if (rc == RC_OK && out->no_text && !limits.no_ocr && extract_ocr_available())
                rc = extract_ocr(fd, &input, arena, out, err);
        } else {
            input.fd = fd;
            rc = extract_run(&input, arena, out, &result, err);
        }
        out->format = format;
    }
    if (fd >= 0)
        close(fd);
    return rc;
}
