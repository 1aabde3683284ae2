#include "server/role.h"

#include <assert.h>

static const char *const words[] = { [ROLE_READ] = "read", [ROLE_OPERATE] = "operate", [ROLE_ADMIN] = "admin" };

const char *role_word(enum role role)
{
    assert(role < ROLE_COUNT);
    return words[role];
}

bool role_parse(struct slice word, enum role *role)
{
    for (enum role i = 0; i < ROLE_COUNT; i++) {
        if (slice_is(word, words[i])) {
            *role = i;
            return true;
        }
    }
    return false;
}
