/* robots.txt as RFC 9309 has it: groups of user agents with rules; the longest pattern that fits
 * decides, and of equally long ones the permission. `*` stands for anything, `$` at the end for the
 * end. */
#include "knowledge/source_private.h"

#define ROBOTS_BYTES_MAX (512 * 1024) /* what follows is not read, as the RFC allows */
#define RULES_MAX        5000
#define DELAY_S_MAX      60

enum group_kind { GROUP_OTHER, GROUP_ANY, GROUP_OURS };

struct parse {
    struct robots_rule *rules[3]; /* of GROUP_ANY and GROUP_OURS */
    size_t counts[3];
    double delays[3];
    bool has_ours;
    bool in_rules;       /* a rule was seen since the last user-agent line */
    enum group_kind now; /* the best name of the group */
};

static bool cut_line(struct str *text, struct str *line)
{
    if (text->n == 0)
        return false;
    size_t n = 0;
    while (n < text->n && text->p[n] != '\n' && text->p[n] != '\r')
        n++;
    *line = str_slice(*text, 0, n);
    *text = str_slice(*text, MIN(n + 1, text->n), text->n);
    return true;
}

static void take_agent(struct parse *parse, struct str value, struct str agent)
{
    if (parse->in_rules) {
        parse->in_rules = false;
        parse->now = GROUP_OTHER;
    }
    /* "capstan/1.0" in the file names us, too. */
    size_t n = 0;
    while (n < value.n && value.p[n] != '/' && value.p[n] != ' ')
        n++;
    if (str_eq(value, STR("*")))
        parse->now = MAX(parse->now, GROUP_ANY);
    else if (str_eq_nocase(str_slice(value, 0, n), agent)) {
        parse->now = GROUP_OURS;
        parse->has_ours = true;
    }
}

static enum rc take_rule(struct parse *parse, struct str value, bool allow, struct arena *arena,
                         struct err *err)
{
    enum group_kind group = parse->now;
    parse->in_rules = true;
    if (group == GROUP_OTHER || value.n == 0 || parse->counts[group] >= RULES_MAX)
        return RC_OK;
    struct str pattern = arena_copy(arena, value);
    if (!pattern.p)
        return err_set(err, ERR_TOO_LARGE, "robots.txt is too large");
    parse->rules[group][parse->counts[group]++] = (struct robots_rule){pattern, allow};
    return RC_OK;
}

static enum rc take_line(struct parse *parse, struct str line, struct str agent,
                         struct arena *arena, struct err *err)
{
    ssize_t comment = str_find_char(line, '#');
    if (comment >= 0)
        line = str_slice(line, 0, (size_t)comment);
    ssize_t colon = str_find_char(line, ':');
    if (colon < 0)
        return RC_OK;
    struct str name = str_trim(str_slice(line, 0, (size_t)colon));
    struct str value = str_trim(str_slice(line, (size_t)colon + 1, line.n));
    double delay;
    if (str_eq_nocase(name, STR("user-agent"))) {
        take_agent(parse, value, agent);
        return RC_OK;
    }
    if (str_eq_nocase(name, STR("crawl-delay"))) {
        parse->in_rules = true;
        if (str_to_double(value, &delay) == RC_OK && delay > 0)
            parse->delays[parse->now] = MIN(delay, (double)DELAY_S_MAX);
        return RC_OK;
    }
    bool allow = str_eq_nocase(name, STR("allow"));
    return allow || str_eq_nocase(name, STR("disallow"))
               ? take_rule(parse, value, allow, arena, err)
               : RC_OK;
}

enum rc robots_parse(struct str text, struct str agent, struct arena *arena, struct robots *out,
                     struct err *err)
{
    struct parse parse = {0};
    struct str line;
    enum rc rc = RC_OK;
    *out = (struct robots){0};
    text = str_slice(text, 0, ROBOTS_BYTES_MAX);
    if (str_starts(text, STR("\xef\xbb\xbf")))
        text = str_slice(text, 3, text.n);
    for (int i = GROUP_ANY; i <= GROUP_OURS; i++) {
        parse.rules[i] = ARENA_NEW_ARRAY(arena, struct robots_rule, RULES_MAX);
        if (!parse.rules[i])
            return err_set(err, ERR_TOO_LARGE, "robots.txt is too large");
    }
    while (rc == RC_OK && cut_line(&text, &line))
        rc = take_line(&parse, line, agent, arena, err);
    enum group_kind group = parse.has_ours ? GROUP_OURS : GROUP_ANY;
    out->rules = parse.rules[group];
    out->count = parse.counts[group];
    out->delay_s = parse.delays[group];
    return rc;
}

/* Greedy with one point to go back to: at most |path| × |pattern| steps. A pattern is a prefix
 * unless it ends with '$'. */
static bool fits(struct str path, struct str pattern)
{
    bool whole = pattern.n > 0 && pattern.p[pattern.n - 1] == '$';
    size_t n = whole ? pattern.n - 1 : pattern.n, i = 0, k = 0, star = SIZE_MAX, from = 0;
    for (;;) {
        if (k == n && (!whole || i == path.n))
            return true;
        if (k < n && pattern.p[k] == '*') {
            star = k++;
            from = i;
        } else if (k < n && i < path.n && pattern.p[k] == path.p[i]) {
            k++;
            i++;
        } else if (star != SIZE_MAX && from < path.n) {
            k = star + 1;
            i = ++from;
        } else {
            return false;
        }
    }
}

bool robots_allow(const struct robots *robots, struct str path)
{
    size_t best = 0;
    bool allow = true;
    for (size_t i = 0; i < robots->count; i++) {
        const struct robots_rule *rule = &robots->rules[i];
        bool wins = rule->pattern.n > best || (rule->pattern.n == best && rule->allow);
        if (wins && fits(path, rule->pattern)) {
            best = rule->pattern.n;
            allow = rule->allow;
        }
    }
    return allow;
}
