/* Slows down guessing of passwords: after FAILURES_FREE failures in a row, an e-mail or an address
 * must wait, twice as long each time. In memory, bounded, any thread. */
#pragma once
#include "base/err.h"

/* ERR_RATE_LIMIT with retry_after_ms. */
enum rc throttle_admit(struct str address, struct str email, struct err *err) MUST_CHECK;
void throttle_failed(struct str address, struct str email);
void throttle_succeeded(struct str email);
void throttle_reset(void); /* tests */
