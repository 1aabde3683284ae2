/* The one thing that makes it hard: a password may hold anything, so the user's part ends at the last `@`. */
#include "server/broker_url.h"

#include "base/text.h"

#include <stdio.h>
#include <string.h>

static enum status refuse(const char *why_text, char *why, size_t size)
{
    snprintf(why, size, "%s: write it as mqtt://host, mqtt://user:password@host:1883 or mqtts://host:8883", why_text);
    return STATUS_INVALID;
}

/* Percent-decodes. Returns false on a bad escape, a control byte, or what does not fit. */
static bool decode(struct slice from, char *to, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < from.len; i++) {
        uint8_t byte = (uint8_t)from.at[i];
        if (byte == '%') {
            if (i + 2 >= from.len || !hex_decode((struct slice){ from.at + i + 1, 2 }, &byte, 1)) {
                return false;
            }
            i += 2;
        }
        if (byte < 0x20 || byte == 0x7f || used + 1 >= size) {
            return false;
        }
        to[used++] = (char)byte;
    }
    to[used] = '\0';
    return true;
}

static const char *last(struct slice text, char c)
{
    return text.len > 0 ? memrchr(text.at, c, text.len) : NULL;
}

static bool read_user(struct slice *rest, struct broker_url *url)
{
    const char *at = last(*rest, '@');
    if (at == NULL) {
        return true;
    }
    struct slice who = { rest->at, (size_t)(at - rest->at) };
    rest->len -= who.len + 1;
    rest->at = at + 1;
    const char *colon = memchr(who.at, ':', who.len);
    struct slice user = { who.at, colon != NULL ? (size_t)(colon - who.at) : who.len };
    struct slice password = { user.at + user.len + (colon != NULL), who.len - user.len - (colon != NULL) };
    return decode(user, url->user, sizeof url->user) && decode(password, url->password, sizeof url->password);
}

/* `host`, `host:port`, `[address]`, `[address]:port`. */
static bool read_host(struct slice rest, struct broker_url *url)
{
    uint64_t port = url->tls ? 8883 : 1883;
    const char *bracket = slice_starts_with(rest, "[") ? memchr(rest.at, ']', rest.len) : NULL;
    const char *colon = last(rest, ':');
    if (bracket != NULL && colon != NULL && colon < bracket) {
        colon = NULL;
    }
    struct slice host = { rest.at, colon != NULL ? (size_t)(colon - rest.at) : rest.len };
    if (colon != NULL) {
        struct slice digits = { colon + 1, rest.len - host.len - 1 };
        if (!number_parse(digits, 65535, &port) || port == 0) {
            return false;
        }
    }
    if (bracket != NULL) {
        host = (struct slice){ host.at + 1, host.len - 2 };
    } else if (memchr(host.at, ':', host.len) != NULL) {
        return false;
    }
    url->port = (uint16_t)port;
    for (size_t i = 0; i < host.len; i++) {
        if (host.at[i] == ' ' || memchr("/?#%@[]\\\"", host.at[i], 9) != NULL) {
            return false;
        }
    }
    return host.len > 0 && text_is_clean_utf8(host) && slice_copy(host, url->host, sizeof url->host);
}

enum status broker_url_read(const char *text, struct broker_url *url, char *why, size_t size)
{
    static const char *const schemes[] = { "mqtt://", "mqtts://" };
    struct slice rest = slice_of(text);
    struct broker_url found = { .tls = slice_starts_with(rest, schemes[1]) };
    const char *scheme = schemes[found.tls];
    if (!slice_starts_with(rest, scheme)) {
        return refuse("a broker's address begins with mqtt:// or mqtts://", why, size);
    }
    rest.at += strlen(scheme);
    rest.len -= strlen(scheme);
    if (slice_ends_with(rest, "/")) {
        rest.len--;
    }
    if (!read_user(&rest, &found)) {
        return refuse("user or password cannot be read (escape special characters as %40)", why, size);
    }
    if (!read_host(rest, &found)) {
        return refuse("host or port cannot be read", why, size);
    }
    *url = found;
    return STATUS_OK;
}

void broker_url_print(const struct broker_url *url, char *to, size_t size)
{
    bool v6 = strchr(url->host, ':') != NULL;
    snprintf(to, size, "%s://%s%s%s:%u", url->tls ? "mqtts" : "mqtt", v6 ? "[" : "", url->host, v6 ? "]" : "",
             (unsigned)url->port);
}
