/* Which server to speak to, and as whom: from flags, the environment, or where a server started here would listen. */
#ifndef CLI_SERVER_PLACE_H
#define CLI_SERVER_PLACE_H

#include "cli/args.h"

#include <stdbool.h>
#include <stddef.h>

#define TOKEN_TEXT_MAX 512

struct server_place {
    char socket[1024];              /* "" where url is set */
    char url[1024];                 /* http://host:port, without a slash at its end */
    char token[TOKEN_TEXT_MAX + 1]; /* "" = none */
};

/* Flags win over the environment. Two of the same rank that name two servers, or two tokens, are a mistake: nobody
 * could tell which was meant. Returns false, with a message, where what was given cannot be used. */
bool server_place_find(struct server_place *place, const struct args *args, char *message, size_t size);

#endif
