/* Topics and payloads with places to fill: `updraft/{type}/{mac}/update`.
 *
 * A place is `{word}` of lower-case letters, digits and `_`; every other brace stands for itself, so that JSON needs no
 * escaping. Checked once, at start; expanded for each command. Also read backwards: which device does a topic name?
 */
#ifndef PROTO_TEMPLATE_H
#define PROTO_TEMPLATE_H

#include "base/status.h"
#include "base/text.h"
#include "proto/mac.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TEMPLATE_TEXT_MAX   1024
#define TEMPLATE_FILLED_MAX 4096 /* a payload with every place at its longest; topics: 256 */

/*    name        place       what it stands for */
#define TEMPLATE_PLACE_LIST(X)                                                                                         \
    X(TYPE, "type", "the device type")                                                                                 \
    X(MAC, "mac", "12 lower-case hexadecimal digits")                                                                  \
    X(MAC_TAIL, "mac_tail", "the last 6 hexadecimal digits of the MAC, in capitals (Tasmota's default topic)")         \
    X(VERSION, "version", "the version of the image")                                                                  \
    X(URL, "url", "where to fetch it")                                                                                 \
    X(MD5, "md5", "of the image file, 32 lower-case hexadecimal digits")                                               \
    X(SIZE, "size", "of the image file in bytes")                                                                      \
    X(MODE, "mode", "sketch or fs")                                                                                    \
    X(ID, "id", "of the command; the same id twice is the same command")                                               \
    X(WINDOW, "window", "seconds: wait a random time up to it first")

enum template_place {
#define X(name, word, text) TEMPLATE_##name,
    TEMPLATE_PLACE_LIST(X)
#undef X
        TEMPLATE_PLACE_COUNT
};

/* What to fill in, by place; NULL = cannot be said here (a topic to all of a type has no mac). */
struct template_values {
    const char *texts[TEMPLATE_PLACE_COUNT];
};

enum template_use {
    TEMPLATE_TOPIC_TYPE,   /* a topic to publish to; needs {type}, or no place at all; none of one device, no {url} */
    TEMPLATE_TOPIC_DEVICE, /* a topic to publish to; needs {mac} or {mac_tail}; no {url} */
    TEMPLATE_TOPIC_FROM,   /* a topic that devices publish to: each place is a level of its own or a part of one; needs
                              {mac} or {mac_tail}; may have {type}; each once */
    TEMPLATE_PAYLOAD, /* any place; where it begins with a `{` that begins no place (as `{url}` does), it must become
                         a JSON object whatever is filled in: places stand in quotes, {size} and {window} may be
                         numbers of their own */
};

/* Whether `text` can be used so. On STATUS_INVALID or STATUS_TOO_LONG `why` says what is wrong and what to do: an
 * unknown place (naming those there are), a wildcard, control bytes, bad UTF-8, an empty topic, a topic over 256 bytes
 * when filled in, JSON that would not parse. */
enum status template_check(const char *text, enum template_use use, char *why, size_t size);

/* Fills in. In a JSON payload, values are escaped for JSON strings. Returns false, leaving `to` empty, where a value is
 * missing (NULL), is none of its kind (no number, longer than promised, in a topic with `/`, `+` or `#`), or it does
 * not fit. Only for texts that template_check passed. */
bool template_expand(const char *text, enum template_use use, const struct template_values *values, char *to,
                     size_t size);

/* The subscription that covers all topics of a TEMPLATE_TOPIC_FROM: each level with a place becomes `+`. */
bool template_filter(const char *text, char *to, size_t size);

/* Reads a topic back. Returns false where it does not match. A type must be valid (proto/type.h). */
struct template_match {
    struct slice type; /* borrowed from the topic; absent where the template has none */
    bool has_mac;
    bool has_mac_tail;
    struct mac mac;
    uint8_t mac_tail[3];
};
bool template_match(const char *text, struct slice topic, struct template_match *match);

#endif
