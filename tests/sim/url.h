/* An http address, taken apart. https is none: the simulated clients speak plain HTTP alone. */
#ifndef TESTS_SIM_URL_H
#define TESTS_SIM_URL_H

#include <stdbool.h>
#include <stdint.h>

struct url {
    char host[128]; /* without the brackets of an IPv6 address */
    bool brackets;
    uint16_t port;
    char user[128]; /* "user:password" as it stands in the address, or "" */
    char path[512]; /* with the query; at least "/" */
};

/* "http://[user:password@]host[:port][/path]", or with another scheme and its port. Returns false on all else. */
bool url_parse(const char *text, const char *scheme, uint16_t port, struct url *url);

#endif
