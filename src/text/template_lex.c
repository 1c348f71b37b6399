/* See template_lex.h. */
#include "text/template_lex.h"
#include "base/utf8.h"
#include <stdarg.h>
#include <stdio.h>

enum rc template_fail_at(struct str source, size_t at, struct err *err, const char *fmt, ...)
{
    char text[ERR_MESSAGE_BYTES_MAX];
    va_list args;
    size_t line = 1, column = 1;
    for (size_t i = 0; i < MIN(at, source.n); i++) {
        column = source.p[i] == '\n' ? 1 : column + ((source.p[i] & 0xc0) != 0x80);
        line += source.p[i] == '\n';
    }
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    return err_set(err, ERR_INVALID, "line %zu, column %zu: %s", line, column, text);
}

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static bool starts_name(char c)
{
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c & 0x80);
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

enum rc template_lex_start(struct template_lexer *lexer, struct str source,
                           const struct template_options *options, struct arena *arena,
                           struct err *err)
{
    char *copy = arena_alloc(arena, source.n + 1);
    size_t n = 0;
    if (!copy || source.n > UINT32_MAX / 2)
        return err_set(err, ERR_TOO_LARGE, "the template is too long");
    if (!utf8_valid(source))
        return err_set(err, ERR_INVALID, "the template is not valid UTF-8");
    for (size_t i = 0; i < source.n; i++) {
        if (source.p[i] != '\r')
            copy[n++] = source.p[i];
        else if (i + 1 == source.n || source.p[i + 1] != '\n')
            copy[n++] = '\n';
    }
    if (n > 0 && copy[n - 1] == '\n' && !options->keep_trailing_newline)
        n--;
    *lexer = (struct template_lexer){
        .source = str_make(copy, n), .options = options, .arena = arena, .err = err};
    return RC_OK;
}

static char char_at(const struct template_lexer *lexer, size_t at)
{
    return at < lexer->source.n ? lexer->source.p[at] : '\0';
}

static void skip_spaces(struct template_lexer *lexer)
{
    while (lexer->at < lexer->source.n && is_space(lexer->source.p[lexer->at]))
        lexer->at++;
}

/* After a part's end: "-" takes all white space, a block takes one newline where that is asked for.
 */
static void close_part(struct template_lexer *lexer, char sign, bool trims)
{
    if (sign == '-')
        skip_spaces(lexer);
    else if (trims && lexer->options->trim_blocks && sign != '+' &&
             char_at(lexer, lexer->at) == '\n')
        lexer->at++;
}

/* The text [start, end) before an opening tag with that sign. */
static struct str text_before(const struct template_lexer *lexer, size_t start, size_t end,
                              char sign, bool block)
{
    const char *p = lexer->source.p;
    size_t n = end;
    if (sign == '-') {
        while (n > start && is_space(p[n - 1]))
            n--;
    } else if (block && sign != '+' && lexer->options->lstrip_blocks) {
        while (n > start && is_space(p[n - 1]) && p[n - 1] != '\n')
            n--;
        if (n > 0 && p[n - 1] != '\n')
            n = end; /* something else stands on the line */
    }
    return str_make(p + start, n - start);
}

/* At "{%": {% raw %} … {% endraw %}? Then its text. */
static bool take_raw(struct template_lexer *lexer, struct str *text)
{
    struct str s = lexer->source;
    size_t at = lexer->at + 2;
    at += char_at(lexer, at) == '-' || char_at(lexer, at) == '+';
    while (at < s.n && is_space(s.p[at]))
        at++;
    if (!str_starts(str_slice(s, at, s.n), STR("raw")))
        return false;
    for (at += 3; at < s.n && is_space(s.p[at]);)
        at++;
    char sign = char_at(lexer, at) == '-' ? '-' : '\0';
    at += sign == '-';
    if (!str_starts(str_slice(s, at, s.n), STR("%}")))
        return false;
    lexer->at = at + 2;
    close_part(lexer, sign, false);
    size_t start = lexer->at;
    for (size_t end = start; end + 1 < s.n; end++) {
        if (s.p[end] != '{' || s.p[end + 1] != '%')
            continue;
        at = end + 2;
        char opens = char_at(lexer, at);
        at += opens == '-' || opens == '+';
        while (at < s.n && is_space(s.p[at]))
            at++;
        if (!str_starts(str_slice(s, at, s.n), STR("endraw")))
            continue;
        for (at += 6; at < s.n && is_space(s.p[at]);)
            at++;
        sign = char_at(lexer, at);
        at += sign == '-' || sign == '+';
        if (!str_starts(str_slice(s, at, s.n), STR("%}")))
            continue;
        *text = text_before(lexer, start, end, opens, true);
        lexer->at = at + 2;
        close_part(lexer, sign, true);
        return true;
    }
    return false;
}

static size_t find_opening(const struct template_lexer *lexer)
{
    const char *p = lexer->source.p + lexer->at, *end = lexer->source.p + lexer->source.n;
    while (p + 1 < end && (p = memchr(p, '{', (size_t)(end - p - 1)))) {
        if (p[1] == '{' || p[1] == '%' || p[1] == '#')
            return (size_t)(p - lexer->source.p);
        p++;
    }
    return lexer->source.n;
}

static enum rc skip_comment(struct template_lexer *lexer, size_t open)
{
    ssize_t end = str_find(str_slice(lexer->source, open + 2, lexer->source.n), STR("#}"));
    if (end < 0)
        return template_fail_at(lexer->source, open, lexer->err, "the comment has no end: #}");
    char sign = end > 0 ? lexer->source.p[open + 1 + (size_t)end] : '\0';
    lexer->at = open + 2 + (size_t)end + 2;
    close_part(lexer, sign, true);
    return RC_OK;
}

enum rc template_lex_part(struct template_lexer *lexer, struct str *text, enum template_part *part)
{
    size_t start = lexer->at, open = find_opening(lexer);
    *part = open == start && start == lexer->source.n ? PART_END : PART_TEXT;
    *text = str_slice(lexer->source, start, open);
    if (open == lexer->source.n) {
        lexer->at = open;
        return RC_OK;
    }
    char kind = lexer->source.p[open + 1], sign = char_at(lexer, open + 2);
    *text = text_before(lexer, start, open, sign, kind != '{');
    if (kind == '#')
        return skip_comment(lexer, open);
    lexer->at = open;
    struct str raw;
    if (kind == '%' && take_raw(lexer, &raw)) {
        struct str joined = arena_concat(lexer->arena, *text, raw);
        if (!joined.p)
            return err_set(lexer->err, ERR_TOO_LARGE, "the template is too long");
        *text = joined;
        return RC_OK;
    }
    lexer->at = open + 2 + (sign == '-' || sign == '+');
    lexer->block = kind == '%';
    lexer->brackets = 0;
    lexer->have_ahead = false;
    *part = lexer->block ? PART_BLOCK : PART_VARIABLE;
    return template_lex_token(lexer);
}

/* Python's escapes, as "unicode-escape" decodes them; unknown ones stay. */
static enum rc decode_text(struct template_lexer *lexer, struct str raw, struct str *out)
{
    char *p = arena_alloc(lexer->arena, raw.n + 1);
    size_t n = 0;
    if (!p)
        return err_set(lexer->err, ERR_TOO_LARGE, "the template is too long");
    for (size_t i = 0; i < raw.n; i++) {
        static const char names[] = "ntr\\'\"abfv", codes[] = "\n\t\r\\'\"\a\b\f\v";
        if (raw.p[i] != '\\' || i + 1 == raw.n) {
            p[n++] = raw.p[i];
            continue;
        }
        char c = raw.p[++i];
        const char *simple = memchr(names, c, sizeof(names) - 1);
        size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0, taken = 0;
        uint32_t code = 0;
        while (taken < digits && i + 1 + taken < raw.n) {
            char d = raw.p[i + 1 + taken];
            bool letter = (d | 0x20) >= 'a' && (d | 0x20) <= 'f';
            if (!is_digit(d) && !letter)
                break;
            code = code << 4 | (uint32_t)(letter ? (d | 0x20) - 'a' + 10 : d - '0');
            taken++;
        }
        if (simple) {
            p[n++] = codes[simple - names];
        } else if (digits && taken == digits && code <= 0x10ffff &&
                   (code < 0xd800 || code > 0xdfff)) {
            n += utf8_encode(code, p + n); /* never longer than its escape */
            i += digits;
        } else if (c != '\n') {
            p[n++] = '\\';
            p[n++] = c;
        }
    }
    *out = str_make(p, n);
    return RC_OK;
}

static enum rc read_text(struct template_lexer *lexer, struct template_token *token)
{
    char quote = lexer->source.p[lexer->at];
    size_t start = ++lexer->at;
    bool escapes = false;
    while (lexer->at < lexer->source.n && lexer->source.p[lexer->at] != quote) {
        escapes |= lexer->source.p[lexer->at] == '\\';
        lexer->at += lexer->source.p[lexer->at] == '\\' ? 2 : 1;
    }
    if (lexer->at >= lexer->source.n)
        return template_fail_at(lexer->source, start - 1, lexer->err, "the text has no end: %c",
                                quote);
    struct str raw = str_slice(lexer->source, start, lexer->at++);
    token->type = TOKEN_TEXT;
    token->text = raw;
    return escapes ? decode_text(lexer, raw, &token->text) : RC_OK;
}

static enum rc read_number(struct template_lexer *lexer, struct template_token *token)
{
    size_t start = lexer->at, n = 0;
    char *digits;
    token->type = TOKEN_INT;
    while (is_digit(char_at(lexer, lexer->at)) ||
           (char_at(lexer, lexer->at) == '_' && is_digit(char_at(lexer, lexer->at + 1))))
        lexer->at++;
    if (char_at(lexer, lexer->at) == '.' && is_digit(char_at(lexer, lexer->at + 1))) {
        token->type = TOKEN_FLOAT;
        for (lexer->at++; is_digit(char_at(lexer, lexer->at));)
            lexer->at++;
    }
    if ((char_at(lexer, lexer->at) | 0x20) == 'e') {
        char sign = char_at(lexer, lexer->at + 1);
        size_t at = lexer->at + 1 + (sign == '-' || sign == '+');
        if (is_digit(char_at(lexer, at))) {
            token->type = TOKEN_FLOAT;
            for (lexer->at = at; is_digit(char_at(lexer, lexer->at));)
                lexer->at++;
        }
    }
    if (!(digits = arena_alloc(lexer->arena, lexer->at - start + 1)))
        return err_set(lexer->err, ERR_TOO_LARGE, "the template is too long");
    for (size_t i = start; i < lexer->at; i++)
        if (lexer->source.p[i] != '_')
            digits[n++] = lexer->source.p[i];
    token->text = str_make(digits, n);
    return RC_OK;
}

/* The part's end here? Only outside of brackets, as in Jinja2. */
static bool take_close(struct template_lexer *lexer)
{
    char first = char_at(lexer, lexer->at), end = lexer->block ? '%' : '}';
    bool signs = first == '-' || (first == '+' && lexer->block);
    size_t at = lexer->at + signs;
    if (lexer->brackets > 0 || char_at(lexer, at) != end || char_at(lexer, at + 1) != '}')
        return false;
    lexer->at = at + 2;
    close_part(lexer, signs ? first : '\0', lexer->block);
    return true;
}

static enum rc read_operator(struct template_lexer *lexer, struct template_token *token)
{
    static const struct {
        char text[3];
        int type;
    } pairs[] = {{"**", TOKEN_POWER},   {"//", TOKEN_FLOOR_DIVIDE}, {"==", TOKEN_EQUAL},
                 {"!=", TOKEN_UNEQUAL}, {"<=", TOKEN_AT_MOST},      {">=", TOKEN_AT_LEAST}};
    char c = lexer->source.p[lexer->at];
    struct str rest = str_slice(lexer->source, lexer->at, lexer->source.n);
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        if (str_starts(rest, str_from(pairs[i].text))) {
            token->type = pairs[i].type;
            lexer->at += 2;
            return RC_OK;
        }
    }
    if (c == '\0' || !strchr("+-*/%~<>=()[]{},:.|", c))
        return template_fail_at(lexer->source, lexer->at, lexer->err, "unexpected character '%c'",
                                c);
    lexer->brackets += c == '(' || c == '[' || c == '{';
    lexer->brackets -= c == ')' || c == ']' || c == '}';
    token->type = (unsigned char)c;
    lexer->at++;
    return RC_OK;
}

static enum rc read_token(struct template_lexer *lexer, struct template_token *token)
{
    skip_spaces(lexer);
    *token = (struct template_token){.at = (uint32_t)lexer->at};
    if (take_close(lexer)) {
        token->type = TOKEN_CLOSE;
        return RC_OK;
    }
    if (lexer->at >= lexer->source.n)
        return template_fail_at(lexer->source, lexer->at, lexer->err, "%s is missing",
                                lexer->block ? "%}" : "}}");
    char c = lexer->source.p[lexer->at];
    if (c == '"' || c == '\'')
        return read_text(lexer, token);
    if (is_digit(c))
        return read_number(lexer, token);
    if (!starts_name(c))
        return read_operator(lexer, token);
    size_t start = lexer->at;
    while (starts_name(char_at(lexer, lexer->at)) || is_digit(char_at(lexer, lexer->at)))
        lexer->at++;
    token->type = TOKEN_NAME;
    token->text = str_slice(lexer->source, start, lexer->at);
    return RC_OK;
}

enum rc template_lex_token(struct template_lexer *lexer)
{
    if (!lexer->have_ahead)
        return read_token(lexer, &lexer->token);
    lexer->token = lexer->ahead;
    lexer->have_ahead = false;
    return RC_OK;
}

enum rc template_lex_peek(struct template_lexer *lexer)
{
    if (lexer->have_ahead)
        return RC_OK;
    lexer->have_ahead = true;
    return read_token(lexer, &lexer->ahead);
}
