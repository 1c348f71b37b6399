/* The console's files, embedded in the program: pages of the single-page application and its
 * assets. */
#pragma once
#include "http/server.h"

/* True when the request is the console's: any GET or HEAD that nothing else has taken. Paths
 * without a file are pages of the application and get index.html, with a nonce of their own. */
bool console_handle(struct http_request *request);
