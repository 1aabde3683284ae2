/* What somebody may do on the operators' side: each role may what the one before it may, and more. */
#ifndef SERVER_ROLE_H
#define SERVER_ROLE_H

#include "base/text.h"

#include <stdbool.h>

enum role {
    ROLE_READ,    /* see; nothing changes */
    ROLE_OPERATE, /* send what is in the repository to devices, stop that, and say what holds for a device */
    ROLE_ADMIN,   /* all: what is in the repository, who else may come in, what was done */
    ROLE_COUNT
};

const char *role_word(enum role role); /* "read", "operate", "admin" */
bool role_parse(struct slice word, enum role *role);

#endif
