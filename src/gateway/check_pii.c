/* What tells personal data from numbers that only look like it: check digits and lengths. */
#include "gateway/check_internal.h"
#include <arpa/inet.h>
#include <ctype.h>

static const struct pii_kind kinds[PII_COUNT] = {
#define PII(symbol, name_, mask_, pattern_)                                                        \
    [PII_##symbol] = {                                                                             \
        .name = STR_INIT(name_), .mask = STR_INIT(mask_), .pattern = STR_INIT(pattern_)},
#include "gateway/check_pii.h"
#undef PII
};

const struct pii_kind *pii_kinds(void) { return kinds; }

/* ISO/IEC 7812: Luhn's digit. */
static bool luhn_holds(struct str s)
{
    int sum = 0, count = 0;
    for (size_t i = s.n; i-- > 0;) {
        if (!isdigit((unsigned char)s.p[i]))
            continue;
        int digit = s.p[i] - '0';
        if (count++ % 2)
            digit = digit * 2 > 9 ? digit * 2 - 9 : digit * 2;
        sum += digit;
    }
    return count >= 13 && count <= 19 && sum % 10 == 0;
}

/* ISO 13616: lengths by country, from the IBAN registry. */
static size_t iban_length(const char country[2])
{
    static const char lengths[] = "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BR29BY28CH21CR22CY28CZ24DE22"
                                  "DK18DO28EE20EG29ES24FI18FO18FR27"
                                  "GB22GE22GI23GL18GR27GT28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20"
                                  "LB28LC32LI21LT20LU20LV21LY25MC27"
                                  "MD24ME22MK19MR27MT31MU30NL18NO15PK24PL28PS29PT25QA29RO24RS22SA24"
                                  "SC31SE24SI19SK24SM27ST25SV28TL23"
                                  "TN24TR26UA29VA22VG24XK20";
    for (const char *at = lengths; *at; at += 4)
        if (at[0] == country[0] && at[1] == country[1])
            return (size_t)((at[2] - '0') * 10 + at[3] - '0');
    return 0;
}

/* The part of the match that is an IBAN whose remainder modulo 97 is 1; 0: none. What follows it in
 * capitals may have been matched along. */
static size_t iban_bytes(struct str s)
{
    char text[40];
    size_t n = 0, end = 0, wanted = iban_length(s.p);
    for (size_t i = 0; i < s.n && n < wanted; i++) {
        if (s.p[i] == ' ')
            continue;
        text[n++] = s.p[i];
        end = i + 1;
    }
    if (!wanted || n != wanted)
        return 0;
    int remainder = 0;
    for (size_t i = 0; i < n; i++) {
        char c = text[(i + 4) % n];
        int value = isdigit((unsigned char)c) ? c - '0' : c - 'A' + 10;
        remainder = (remainder * (value > 9 ? 100 : 10) + value) % 97;
    }
    return remainder == 1 ? end : 0;
}

static bool is_ipv6(struct str s)
{
    char text[64];
    struct in6_addr address;
    if (s.n >= sizeof(text) || s.n < 3)
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = 0;
    return inet_pton(AF_INET6, text, &address) == 1;
}

size_t pii_verify(enum pii kind, struct str match)
{
    switch (kind) {
    case PII_IBAN: return iban_bytes(match);
    case PII_CREDIT_CARD: return luhn_holds(match) ? match.n : 0;
    case PII_IP: return !memchr(match.p, ':', match.n) || is_ipv6(match) ? match.n : 0;
    default: return match.n;
    }
}
