/* Source code, cut at definitions by simple rules on lines, per family of languages: nothing is
 * parsed. A class (module, namespace …) becomes a heading, since what follows belongs to it; a
 * function a block of code with the comments and decorators above it. What the rules do not see
 * stays together in one block, and is cut by lines later. */
#include "knowledge/extract_reader.h"

struct language {
    const char *endings;
    const char *groups;      /* words that begin a class */
    const char *definitions; /* words that begin a function or another definition */
    const char *prefixes;    /* words that may stand before both */
    bool by_indent;          /* members are indented and have no braces (Python) */
    bool c_like;             /* at the margin, a line that ends with { or ) begins a function */
};

static const struct language LANGUAGES[] = {
    {"py pyi", "class", "def", "async", true, false},
    {"rb ex exs", "class module defmodule", "def defp", "", true, false},
    {"c h cc cpp cxx hpp hh m mm", "class namespace struct", "enum union typedef", "static", false,
     true},
    {"java kt kts scala cs groovy dart swift", "class interface object trait extension",
     "enum record fun func struct def protocol",
     "public private protected internal static final abstract open sealed data override export",
     false, false},
    {"js mjs cjs jsx ts tsx vue svelte", "class interface namespace", "function const enum type",
     "export default async abstract declare", false, false},
    {"go", "", "func type", "", false, false},
    {"rs zig", "impl trait mod", "fn struct enum macro_rules! const", "pub async unsafe", false,
     false},
    {"php", "class interface trait", "function", "public private protected static abstract final",
     false, false},
    {"sql", "", "CREATE create ALTER alter", "", false, false},
    {"sh bash zsh fish ps1", "", "function", "", false, true},
    {"lua", "", "function", "local", true, false},
    {"pl pm r jl hs ml erl clj nim", "module", "sub function let def defn defun proc fun", "",
     false, false},
};

static const struct language PLAIN = {"", "", "", "", false, false};

static bool has_word(const char *words, struct str word)
{
    struct str rest = str_from(words), one;
    while (str_split(&rest, ' ', &one))
        if (one.n && str_eq(one, word))
            return true;
    return false;
}

static const struct language *language_of(struct str file_name)
{
    ssize_t dot = str_rfind_char(file_name, '.');
    struct str ending = dot < 0 ? STR_EMPTY : str_slice(file_name, (size_t)dot + 1, file_name.n);
    for (size_t i = 0; i < COUNT_OF(LANGUAGES); i++)
        if (has_word(LANGUAGES[i].endings, ending))
            return &LANGUAGES[i];
    return &PLAIN;
}

enum line_kind { LINE_OTHER, LINE_BLANK, LINE_LEAD, LINE_GROUP, LINE_DEFINITION };

static size_t indent_of(struct str line)
{
    size_t n = 0;
    while (n < line.n && (line.p[n] == ' ' || line.p[n] == '\t'))
        n++;
    return n;
}

static struct str first_word(struct str *rest)
{
    *rest = str_trim(*rest);
    size_t n = 0;
    while (n < rest->n && !strchr(" \t(<{:=;", rest->p[n]))
        n++;
    struct str word = str_slice(*rest, 0, n);
    *rest = str_slice(*rest, n, rest->n);
    return word;
}

/* Comments, decorators, attributes: they go with the definition below. */
static bool is_lead(struct str text)
{
    static const struct str marks[] = {STR_INIT("//"), STR_INIT("/*"),     STR_INIT("* "),
                                       STR_INIT("*/"), STR_INIT("#"),      STR_INIT("@"),
                                       STR_INIT("--"), STR_INIT("\"\"\""), STR_INIT(";;")};
    if (str_starts(text, STR("#include")) || str_starts(text, STR("#define")) ||
        str_starts(text, STR("#if")) || str_starts(text, STR("#endif")))
        return false;
    for (size_t i = 0; i < COUNT_OF(marks); i++)
        if (str_starts(text, marks[i]))
            return true;
    return str_eq(text, STR("*"));
}

/* A function's first line where no word says so: "int main(", "public void run() {". */
static bool opens_body(const struct language *language, struct str text, struct str word,
                       size_t indent)
{
    char last = text.p[text.n - 1];
    if (str_find_char(text, '(') <= 0 || strchr("{}#", text.p[0]) ||
        has_word("if else for while switch catch try do return throw new await case with", word))
        return false;
    if (language->c_like)
        return last == '{' || last == ')' || last == ',';
    return !language->by_indent && language->endings[0] && last == '{' && indent <= 4;
}

static enum line_kind classify(const struct language *language, struct str line)
{
    struct str text = str_trim(line);
    size_t indent = indent_of(line);
    if (!text.n)
        return LINE_BLANK;
    if (is_lead(text))
        return LINE_LEAD;
    if (indent && language->c_like)
        return LINE_OTHER;
    if (indent > 8)
        return LINE_OTHER;
    struct str rest = text, word = first_word(&rest);
    while (has_word(language->prefixes, word) && rest.n)
        word = first_word(&rest);
    bool declared = text.p[text.n - 1] == ';'; /* a declaration, not a definition */
    if (has_word(language->groups, word) && !declared)
        return LINE_GROUP;
    if (has_word(language->definitions, word) && (!indent || !has_word("const type let", word)))
        return LINE_DEFINITION;
    return opens_body(language, text, word, indent) ? LINE_DEFINITION : LINE_OTHER;
}

struct code {
    struct reader *reader;
    const struct language *language;
    struct str text;
    size_t begin; /* of the block that is open */
    size_t lead;  /* where the comments before the current line begin */
};

static enum rc flush(struct code *code, size_t end)
{
    enum rc rc =
        reader_add(code->reader, BLOCK_CODE, 0, str_slice(code->text, code->begin, end), NULL);
    code->begin = end;
    return rc;
}

enum rc read_code(struct reader *reader, struct str bytes)
{
    struct code code = {.reader = reader, .language = language_of(reader->file_name)};
    enum rc rc = charset_decode(reader, bytes, STR_EMPTY, &code.text);
    bool in_lead = false;
    for (size_t at = 0; at < code.text.n && rc == RC_OK;) {
        const char *lf = memchr(code.text.p + at, '\n', code.text.n - at);
        size_t end = lf ? (size_t)(lf - code.text.p) + 1 : code.text.n;
        struct str line = str_slice(code.text, at, end);
        enum line_kind kind = classify(code.language, line);
        if (!in_lead)
            code.lead = at;
        if (kind == LINE_DEFINITION || kind == LINE_GROUP)
            rc = flush(&code, code.lead);
        if (kind == LINE_GROUP && rc == RC_OK) {
            rc = flush(&code, at); /* its comment, as text under what is above */
            if (rc == RC_OK)
                rc = reader_add(reader, BLOCK_HEADING, 1 + (indent_of(line) > 0), line, NULL);
            code.begin = end;
        }
        in_lead = kind == LINE_LEAD;
        at = end;
    }
    return rc == RC_OK ? flush(&code, code.text.n) : rc;
}
