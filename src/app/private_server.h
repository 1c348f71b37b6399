/* A server of our own for the time of one command: `capstan serve` with the given configuration, a
 * data folder that goes with it and a free port of 127.0.0.1. What runs there is what runs on any
 * server, children and all; nothing of it is kept. */
#pragma once
#include <stdbool.h>
#include <sys/types.h>

struct private_server {
    pid_t keeper; /* ends the server and removes its folder when we close `life`, or are gone */
    int life;
};

/* `config` NULL: $CAPSTAN_CONFIG, ./capstan.yaml, or none. Sets CAPSTAN_URL and CAPSTAN_KEY for
 * client.h. False: an error was printed. */
bool private_server_start(const char *command, const char *config, struct private_server *out);
void private_server_stop(struct private_server *server);
