/* Three lines: a template, a topic, a value. Whatever template_check lets through can be filled in with any value that
 * fits, and what is read back from a topic is what would be written there.
 */
#include "mqtt/session.h"
#include "proto/template.h"
#include "repo/filename.h"

#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LINE_BYTES_MAX 2000

/* A line without its end, cut at a NUL: configuration and topics are C strings. */
static void take_line(struct slice *rest, char line[LINE_BYTES_MAX + 1])
{
    const char *newline = rest->len > 0 ? memchr(rest->at, '\n', rest->len) : NULL;
    size_t n = newline != NULL ? (size_t)(newline - rest->at) : rest->len;
    size_t kept = n < LINE_BYTES_MAX ? n : LINE_BYTES_MAX;
    if (kept > 0) {
        memcpy(line, rest->at, kept);
    }
    line[kept] = '\0';
    rest->at += n + (newline != NULL);
    rest->len -= n + (newline != NULL);
}

/* As a broker does it (MQTT 5, 4.7): `+` stands for one level. */
static bool filter_covers(const char *filter, const char *topic)
{
    for (; *filter != '\0'; filter++) {
        if (*filter == '+') {
            topic += strcspn(topic, "/");
        } else if (*filter != *topic++) {
            return false;
        }
    }
    return *topic == '\0';
}

static void check_payload(const char *text, const struct template_values *values)
{
    char filled[TEMPLATE_FILLED_MAX + 1];
    bool is_json = text[0] == '{' && strncmp(text, "{}", 2) != 0 && strchr("\" ", text[1]) != NULL;
    if (!template_expand(text, TEMPLATE_PAYLOAD, values, filled, sizeof filled)) {
        assert(filled[0] == '\0');
        return;
    }
    assert(text_is_clean_utf8(slice_of(filled)));
    if (is_json) {
        json_error_t error;
        json_t *object = json_loads(filled, JSON_REJECT_DUPLICATES, &error);
        assert(json_is_object(object));
        json_decref(object);
    }
}

static void check_topic(const char *text, enum template_use use, const struct template_values *values)
{
    char topic[SESSION_TOPIC_MAX + 1];
    if (!template_expand(text, use, values, topic, sizeof topic)) {
        assert(topic[0] == '\0');
        return;
    }
    assert(topic[0] != '\0' && strpbrk(topic, "+#") == NULL && text_is_clean_utf8(slice_of(topic)));
    if (use == TEMPLATE_TOPIC_FROM) {
        struct template_match match;
        char filter[SESSION_TOPIC_MAX + 1];
        assert(template_filter(text, filter, sizeof filter));
        assert(filter_covers(filter, topic));
        assert(template_match(text, slice_of(topic), &match) && (match.has_mac || match.has_mac_tail));
    }
}

/* What the topic was read as, written again, is the topic (hexadecimal digits in either case). */
static void check_match(const char *text, const char *topic)
{
    struct template_match match;
    if (!template_match(text, slice_of(topic), &match)) {
        return;
    }
    char type[TYPE_TEXT_MAX + 1] = "";
    char mac[MAC_TEXT_SIZE];
    char tail[7];
    char again[SESSION_TOPIC_MAX + 1];
    char filter[SESSION_TOPIC_MAX + 1];
    struct template_values values = { { [TEMPLATE_TYPE] = type, [TEMPLATE_MAC] = mac, [TEMPLATE_MAC_TAIL] = tail } };
    assert(match.has_mac || match.has_mac_tail);
    assert(match.type.at == NULL || type_is_valid(match.type));
    assert(slice_copy(match.type, type, sizeof type));
    mac_print(&match.mac, mac);
    hex_encode(match.mac_tail, 3, tail);
    assert(template_expand(text, TEMPLATE_TOPIC_FROM, &values, again, sizeof again));
    assert(strcasecmp(again, topic) == 0);
    assert(template_filter(text, filter, sizeof filter));
    assert(filter_covers(filter, topic));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = { (const char *)data, size };
    char text[LINE_BYTES_MAX + 1];
    char topic[LINE_BYTES_MAX + 1];
    char value[LINE_BYTES_MAX + 1];
    take_line(&rest, text);
    take_line(&rest, topic);
    take_line(&rest, value);
    struct template_values values = { { "d1_mini", "5ccf7fb1e042", "b1e042", value, value, value, "0", "fs", value,
                                        "4294967295" } };
    for (int i = TEMPLATE_TOPIC_TYPE; i <= TEMPLATE_PAYLOAD; i++) {
        enum template_use use = (enum template_use)i;
        char why[200] = "";
        enum status status = template_check(text, use, why, sizeof why);
        assert(status == STATUS_OK || status == STATUS_INVALID || status == STATUS_TOO_LONG);
        assert((status == STATUS_OK) == (why[0] == '\0'));
        if (status != STATUS_OK) {
            continue;
        }
        if (use == TEMPLATE_PAYLOAD) {
            check_payload(text, &values);
        } else {
            check_topic(text, use, &values);
        }
        if (use == TEMPLATE_TOPIC_FROM) {
            check_match(text, topic);
        }
    }
    return 0;
}
