/* Shared by the server's side of extraction: one run of our confined reader. */
#pragma once
#include "io/sandbox.h"
#include "knowledge/extract.h"

#define EXTRACT_CHILD_COMMAND "extract-child"

struct extract_input {
    int format; /* enum extract_format or EXTRACT_OCR */
    struct str file_name;
    const struct extract_limits *limits; /* none of them 0 */
    struct str bytes;                    /* the input, or: */
    int fd;                              /* > 0: a file, from its start, or: */
    const struct sandbox_command *feeder;
};

enum rc extract_run(const struct extract_input *input, struct arena *arena, struct extracted *out,
                    struct sandbox_result *result, struct err *err);
/* Lets the command end when limits->cancelled says so. */
void extract_watch_cancel(struct sandbox_command *command, const struct extract_limits *limits);

/* One page (from 1) of a PDF as a JPEG of bounded size, drawn behind walls. */
enum rc extract_draw_page(int fd, size_t number, size_t bytes_max,
                          const struct extract_limits *limits, struct arena *arena, struct str *out,
                          struct err *err) MUST_CHECK;

/* A PDF of pictures, read by tesseract into `document`, whose pages are known. */
bool extract_ocr_available(void);
enum rc extract_ocr(int fd, struct extract_input *input, struct arena *arena,
                    struct extracted *document, struct err *err);
