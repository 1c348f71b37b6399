/* An origin that says what the test tells it to, byte by byte. */
#pragma once
#include "rig.h"

struct script {
    struct rig *rig;
    struct listener *listener;
    char url[64];
    /* For each connection in turn, the last one for all further: */
    const char *answers[8];
    size_t answer_bytes[8]; /* 0: strlen */
    int answers_count;
    size_t piece_bytes;   /* of an answer, each in its own turn; 0: all at once */
    bool close_after;     /* closes when an answer is out */
    bool close_on_second; /* closes when a second request comes on a connection */
    bool answer_at_once;  /* without waiting for a request */
    unsigned connections, requests;
    char request[8192]; /* the last one, NUL-terminated */
    struct list visitors;
};

void script_init(struct script *script, struct rig *rig, const char *answer);
void script_fini(struct script *script);
struct http_origin *script_origin(struct script *script);
