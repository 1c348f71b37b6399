/* Kinds of personal data that a check can find: PII(NAME, name, mask, pattern). Patterns are
 * bounded, so that a stream is held back only a little; what a pattern alone cannot tell (check
 * digits) is verified in check_pii.c. Included several times, so it has no guard. */
PII(EMAIL, "email", "[EMAIL]",
    "(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\\.){1,8}[A-Za-z]{2,24}(?![A-"
    "Za-z0-9])")
PII(PHONE, "phone", "[PHONE]",
    "(?<![\\w+])\\+[1-9](?:[ .()/-]{0,2}\\d){6,14}(?!\\d)|"
    "(?<![\\d.-])(?:\\(\\d{3}\\) ?|\\d{3}[-. ])\\d{3}[-. ]\\d{4}(?![\\d-])")
PII(IBAN, "iban", "[IBAN]", "(?<![A-Za-z0-9])[A-Z]{2}\\d{2}(?: ?[A-Z0-9]){11,30}")
PII(CREDIT_CARD, "credit_card", "[CREDIT_CARD]",
    "(?<![\\d-])[2-6]\\d{3}(?:[ -]?\\d){9,15}(?![\\d])")
PII(IP, "ip", "[IP]",
    "(?<![\\d.])(?:(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)\\.){3}(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]"
    "?\\d)(?![\\d.]?\\d)|"
    "(?<![\\w:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\\w:])")
PII(SSN, "ssn", "[SSN]",
    "(?<![\\d-])(?!000|666|9\\d\\d)\\d{3}-(?!00)\\d{2}-(?!0000)\\d{4}(?![\\d-])")
PII(SECRET, "secret", "[SECRET]",
    "(?<![A-Za-z0-9_-])(?:sk-[A-Za-z0-9_-]{20,200}|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,255}|"
    "xox[abprs]-[A-Za-z0-9-]{10,100})(?![A-Za-z0-9_-])")
