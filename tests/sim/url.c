/* Addresses of the one form that devices are told: small enough to be read by hand. */
#include "tests/sim/url.h"

#include "base/text.h"

#include <stdio.h>

static bool parse_host(struct slice host, struct url *url)
{
    url->brackets = host.len > 2 && host.at[0] == '[' && host.at[host.len - 1] == ']';
    if (url->brackets) {
        host.at++;
        host.len -= 2;
    }
    return host.len > 0 && slice_copy(host, url->host, sizeof url->host);
}

/* "host[:port]"; the colons inside of brackets are the address's own. */
static bool parse_authority(struct slice text, uint16_t port, struct url *url)
{
    size_t host = text.len;
    for (size_t i = text.len; i > 0 && text.at[i - 1] != ']'; i--) {
        if (text.at[i - 1] == ':') {
            host = i - 1;
        }
    }
    uint64_t number = port;
    bool ok =
        host == text.len || number_parse((struct slice){ text.at + host + 1, text.len - host - 1 }, 65535, &number);
    url->port = (uint16_t)number;
    return ok && number != 0 && parse_host((struct slice){ text.at, host }, url);
}

bool url_parse(const char *text, const char *scheme, uint16_t port, struct url *url)
{
    char start[16];
    int n = snprintf(start, sizeof start, "%s://", scheme);
    if (strncmp(text, start, (size_t)n) != 0) {
        return false;
    }
    const char *from = text + n;
    size_t len = strcspn(from, "/?#");
    const char *path = from + len;
    const char *at = memchr(from, '@', len);
    struct slice user = { from, at != NULL ? (size_t)(at - from) : 0 };
    struct slice authority = at != NULL ? (struct slice){ at + 1, len - user.len - 1 } : (struct slice){ from, len };
    if (*path == '?' || *path == '#') {
        return false; /* no client of ours asks for a query of the root */
    }
    return slice_copy(user, url->user, sizeof url->user) && parse_authority(authority, port, url) &&
           slice_copy(slice_of(*path == '\0' ? "/" : path), url->path, sizeof url->path);
}
