/* See support.h. */
#include "knowledge/support.h"
#include "base/map.h"
#include <ctype.h>

#define WORD_BYTES_MAX 64
#define WORD_BYTES_MIN 4 /* shorter ones tell little, but for numbers */
#define STEM_BYTES     6 /* words are compared by their beginnings: "durable", "durability" */

static bool is_word(unsigned char c) { return isalnum(c) || c >= 0x80; }

/* The next telling word at or after *at, in lower case, cut to its stem; false at the end. */
static bool next_word(struct str text, size_t *at, char out[WORD_BYTES_MAX], size_t *n,
                      bool *number)
{
    while (*at < text.n) {
        while (*at < text.n && !is_word((unsigned char)text.p[*at]))
            (*at)++;
        size_t length = 0;
        bool digits = false, open = *at > 0 && text.p[*at - 1] == '[';
        for (; *at < text.n && is_word((unsigned char)text.p[*at]); (*at)++) {
            digits |= isdigit((unsigned char)text.p[*at]) != 0;
            if (length < WORD_BYTES_MAX)
                out[length++] = (char)tolower((unsigned char)text.p[*at]);
        }
        bool citation = open && *at < text.n && text.p[*at] == ']'; /* "[2]" */
        if (length && !citation && (digits || length >= WORD_BYTES_MIN)) {
            *number = digits;
            *n = digits ? length : MIN(length, (size_t)STEM_BYTES);
            return true;
        }
    }
    return false;
}

static bool ends_sentence(struct str text, size_t at)
{
    char c = text.p[at];
    if (c == '\n')
        return true;
    if (c != '.' && c != '!' && c != '?')
        return false;
    return at + 1 == text.n || isspace((unsigned char)text.p[at + 1]);
}

static bool put_words(struct map *words, struct str text, struct arena *arena)
{
    char word[WORD_BYTES_MAX];
    size_t at = 0, n;
    bool number;
    while (next_word(text, &at, word, &n, &number)) {
        if (map_get(words, str_make(word, n)))
            continue;
        struct str copy = arena_copy(arena, str_make(word, n));
        if (!copy.p)
            return false;
        map_put(words, copy, (void *)copy.p);
    }
    return true;
}

/* Share of the sentence's words that the passage holds; 0 when one of its numbers is missing. */
static double share_of(struct str sentence, const struct map *words, bool *telling)
{
    char word[WORD_BYTES_MAX];
    size_t at = 0, n, total = 0, found = 0;
    bool number, number_missing = false;
    while (next_word(sentence, &at, word, &n, &number)) {
        bool there = map_get(words, str_make(word, n)) != NULL;
        total++;
        found += there;
        number_missing |= number && !there;
    }
    *telling = total > 0;
    return total == 0 || number_missing ? 0 : (double)found / (double)total;
}

static void judge(struct str answer, struct supported_sentence *sentence, const struct map *words,
                  size_t count)
{
    struct str text = str_slice(answer, sentence->begin, sentence->end);
    sentence->passage = -1;
    for (size_t i = 0; i < count; i++) {
        double share = share_of(text, &words[i], &sentence->telling);
        if (share > sentence->share) {
            sentence->share = share;
            sentence->passage = (int)i;
        }
    }
    sentence->supported = sentence->share >= SUPPORT_SHARE_MIN;
}

size_t support_check(struct str answer, const struct str *passages, size_t passage_count,
                     struct arena *arena, struct supported_sentence **out)
{
    struct map words[SUPPORT_PASSAGES_MAX];
    size_t count = 0, begin = 0;
    size_t used = MIN(passage_count, (size_t)SUPPORT_PASSAGES_MAX);
    *out = ARENA_NEW_ARRAY(arena, struct supported_sentence, SUPPORT_SENTENCES_MAX);
    bool ok = *out != NULL;
    for (size_t i = 0; i < used; i++) {
        map_init(&words[i]);
        ok = ok && put_words(&words[i], passages[i], arena);
    }
    for (size_t i = 0; ok && i < answer.n && count < SUPPORT_SENTENCES_MAX; i++) {
        if (i + 1 < answer.n && !ends_sentence(answer, i))
            continue;
        while (begin <= i && isspace((unsigned char)answer.p[begin]))
            begin++;
        if (begin <= i) {
            struct supported_sentence *sentence = &(*out)[count];
            *sentence = (struct supported_sentence){.begin = begin, .end = i + 1};
            judge(answer, sentence, words, used);
            count += sentence->telling || used == 0;
        }
        begin = i + 1;
    }
    for (size_t i = 0; i < used; i++)
        map_fini(&words[i]);
    if (!ok)
        *out = NULL;
    return ok ? count : 0;
}
