/* What socket.c (streams over sockets) and socket_batch.c (their reads and writes in batches)
 * share.
 */
#pragma once
#include "io/epoll.h"

/* What the system did not take of what was gathered; rare. */
struct unsent {
    struct list node;   /* of batch->lingering, once its stream is closed */
    struct timer timer; /* of a closed one: gives up */
    struct socket_stream *socket;
    size_t at, n; /* bytes [at, n) of `p` */
    char p[];
};

struct socket_stream {
    struct stream base;
    struct source source;
    struct dead dead;
    int fd;
    /* read ahead, not taken by the owner yet */
    uint32_t ahead_n;
    char *ahead;
    bool ahead_own;    /* `ahead_block` is this socket's own memory; else the loop's, for a while */
    bool drained;      /* behind the bytes read ahead the system had no more */
    bool reads_much;   /* the last read was large: not read ahead */
    bool looked;       /* read ahead for the event that is about to be handed out */
    bool broken;       /* reading ahead failed: the next read tells */
    bool end_wanted;   /* shut down once all is sent */
    uint8_t gathered;  /* its place among what is to be sent, from 1; 0: nothing is */
    char *ahead_block; /* to be freed */
    struct unsent *unsent;
    struct endpoint_short {
        sa_family_t family;
        uint8_t bytes[16];
    } peer;
    char peer_text[INET6_ADDRSTRLEN]; /* made when asked for */
};
#define SOCKET(stream) CONTAINER_OF(stream, struct socket_stream, base)

struct batch *batch_of(const struct socket_stream *socket);

/* ---- reading ---- */
/* Moves what was read ahead to the owner; how many bytes. */
size_t batch_take(struct socket_stream *socket, char *p, size_t n_max);
/* The owner's read went to the system: how much it gave. */
void batch_note_read(struct socket_stream *socket, size_t n);

/* ---- writing ---- */
/* Takes a small write to be sent at the end of the turn. False: write it yourself. */
bool batch_gather(struct socket_stream *socket, const struct iovec *parts, int count, size_t n);
/* Sends what was gathered for this socket now. */
void batch_send(struct socket_stream *socket);
/* Sends what is left over; false: some still is. */
bool batch_send_unsent(struct socket_stream *socket);
/* The stream is being closed. True: bytes are left over, and the socket lingers until they are out.
 */
bool batch_close(struct socket_stream *socket);
/* socket.c: closes the descriptor and frees at the end of the turn. */
void socket_bury(struct socket_stream *socket);
