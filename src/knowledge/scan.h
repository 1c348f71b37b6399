/* Files without text: scans and pictures. Page images go to a model that sees (`vision`), or the
 * file goes to Docling or Tika; tesseract, in its confined child, is extract_ocr.c's. A worker's.
 *
 * What comes back is read by our own confined readers, as Markdown or HTML. */
#pragma once
#include "knowledge/extract.h"
#include "knowledge/knowledge_private.h"

struct scan {
    struct knowledge *knowledge;
    const struct collection *collection;
    const char *path;
    struct str file_name;
    const volatile bool *cancelled;
    struct arena *arena; /* of the result */
};

/* Does the collection send such files to somebody? */
bool scan_goes_out(const struct collection_scans *scans);
/* `document` is as extract_file left it, or empty when there is no reader for the file; its pages
 * are known if it is a PDF. Errors say what to do. ERR_MEDIA_TYPE: no picture that can be shown to
 * a model. */
enum rc scan_read(const struct scan *scan, struct extracted *document, struct err *err) MUST_CHECK;

/* ---- pure functions of what comes back ---- */

/* The Markdown of an answer to POST /v1/convert/file. */
enum rc scan_read_docling(struct str body, struct arena *arena, struct str *out,
                          struct err *err) MUST_CHECK;
/* The text of a chat completion, without the fence that some models put around it; empty when the
 * model says that there is none. */
enum rc scan_read_completion(struct str body, struct arena *arena, struct str *out,
                             struct err *err) MUST_CHECK;
/* "image/png" …, by its first bytes; empty: no picture that models take. */
struct str scan_picture_type(struct str bytes);
