/* Two families of clients say the same things under names that differ in one word; a table says which header fills
 * what. The one thing that makes it hard: nearly everything may be missing, and nothing may be believed. */
#include "proto/device_request.h"

#include <string.h>

/* A header is <prefix of the family><suffix of the field>, in any case. */
#define ESP8266_PREFIX "x-ESP8266-"
#define ESP32_PREFIX   "x-ESP32-"
#define FIELD_LIST(X)                                                                                                  \
    X(STA_MAC, "STA-MAC")                                                                                              \
    X(MODE, "mode")                                                                                                    \
    X(VERSION, "version")                                                                                              \
    X(SKETCH_MD5, "sketch-md5")                                                                                        \
    X(SKETCH_SHA256, "sketch-sha256")                                                                                  \
    X(FREE_SPACE, "free-space")                                                                                        \
    X(SKETCH_SIZE, "sketch-size")                                                                                      \
    X(CHIP_SIZE, "chip-size")                                                                                          \
    X(SDK_VERSION, "sdk-version")

enum field {
#define X(field, suffix) FIELD_##field,
    FIELD_LIST(X)
#undef X
        FIELD_COUNT,
};

/* For messages. */
static const char *const names[FIELD_COUNT][3] = {
#define X(field, suffix)                                                                                               \
    [FIELD_##field] = { [CLIENT_ESP8266] = ESP8266_PREFIX suffix, [CLIENT_ESP32] = ESP32_PREFIX suffix },
    FIELD_LIST(X)
#undef X
};

static const struct {
    const char *user_agent;
    enum device_client client;
} user_agents[] = {
    { "ESP8266-http-Update", CLIENT_ESP8266 },
    { "ESP32-http-Update", CLIENT_ESP32 },
};

static const struct {
    const char *word;
    enum device_mode mode;
} modes[] = {
    { "sketch", DEVICE_MODE_SKETCH }, { "spiffs", DEVICE_MODE_FS },       { "filesystem", DEVICE_MODE_FS },
    { "littlefs", DEVICE_MODE_FS },   { "version", DEVICE_MODE_VERSION },
};

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

static enum device_client find_client(const struct header *headers, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!slice_is_nocase(headers[i].name, "User-Agent")) {
            continue;
        }
        for (size_t k = 0; k < COUNT_OF(user_agents); k++) {
            if (slice_is(headers[i].value, user_agents[k].user_agent)) {
                return user_agents[k].client;
            }
        }
        break;
    }
    return CLIENT_PLAIN;
}

/* Takes a prefix off a name; false where it has another, or nothing else. */
static inline bool strip_prefix(struct slice *name, const char *prefix)
{
    size_t n = strlen(prefix);
    if (name->len <= n || !letters_match(name->at, prefix, n)) {
        return false;
    }
    name->at += n;
    name->len -= n;
    return true;
}

/* The field that a family's header fills, FIELD_COUNT where it is none. Written out from the list, so that each length
 * is known when it is compiled: this is asked of every header of every check. */
static enum field field_of(struct slice name, enum device_client client)
{
    if (!(client == CLIENT_ESP8266 ? strip_prefix(&name, ESP8266_PREFIX) : strip_prefix(&name, ESP32_PREFIX))) {
        return FIELD_COUNT;
    }
#define X(field, suffix)                                                                                               \
    if (slice_is_nocase(name, suffix)) {                                                                               \
        return FIELD_##field;                                                                                          \
    }
    FIELD_LIST(X)
#undef X
    return FIELD_COUNT;
}

/* Collects the values of one family's headers, the first of each. Returns the name of one that came twice, or NULL. */
static const char *collect(const struct header *headers, size_t n, enum device_client client,
                           struct slice values[FIELD_COUNT])
{
    const char *twice = NULL;
    for (size_t i = 0; i < n; i++) {
        enum field field = field_of(headers[i].name, client);
        if (field != FIELD_COUNT && values[field].at != NULL) {
            twice = names[field][client];
        } else if (field != FIELD_COUNT) {
            values[field] = headers[i].value;
        }
    }
    return twice;
}

static bool read_mode(struct slice value, enum device_mode *mode)
{
    if (value.at == NULL) {
        *mode = DEVICE_MODE_SKETCH; /* cores before 2.1 do not say */
        return true;
    }
    for (size_t i = 0; i < COUNT_OF(modes); i++) {
        if (slice_is_nocase(value, modes[i].word)) {
            *mode = modes[i].mode;
            return true;
        }
    }
    return false;
}

static void read_optional(const struct slice values[FIELD_COUNT], struct device_request *request)
{
    request->has_md5 = hex_decode(values[FIELD_SKETCH_MD5], request->sketch_md5, sizeof request->sketch_md5);
    request->has_sha256 =
        hex_decode(values[FIELD_SKETCH_SHA256], request->sketch_sha256, sizeof request->sketch_sha256);
    (void)number_parse(values[FIELD_FREE_SPACE], DEVICE_NUMBER_MAX, &request->free_bytes);
    (void)number_parse(values[FIELD_SKETCH_SIZE], DEVICE_NUMBER_MAX, &request->sketch_bytes);
    (void)number_parse(values[FIELD_CHIP_SIZE], DEVICE_NUMBER_MAX, &request->flash_bytes);
    if (values[FIELD_VERSION].len > 0) {
        request->label = values[FIELD_VERSION];
        (void)version_parse(request->label, &request->version);
    }
    request->sdk = values[FIELD_SDK_VERSION];
}

enum device_request_result device_request_read(const struct header *headers, size_t n, struct device_request *request,
                                               const char **header)
{
    return device_request_read_as(find_client(headers, n), headers, n, request, header);
}

enum device_request_result device_request_read_as(enum device_client client, const struct header *headers, size_t n,
                                                  struct device_request *request, const char **header)
{
    memset(request, 0, sizeof *request);
    request->chip = CHIP_UNKNOWN;
    request->client = client;
    if (request->client == CLIENT_PLAIN) {
        return DEVICE_REQUEST_NOT_AN_UPDATER;
    }
    if (request->client == CLIENT_ESP8266) {
        request->chip = CHIP_ESP8266;
    }
    struct slice values[FIELD_COUNT] = { { NULL, 0 } };
    const char *twice = collect(headers, n, request->client, values);
    read_optional(values, request);
    request->has_mac = mac_parse(values[FIELD_STA_MAC], &request->mac);
    bool mode_is_known = read_mode(values[FIELD_MODE], &request->mode);
    if (twice != NULL) {
        *header = twice;
        return DEVICE_REQUEST_BAD_HEADER;
    }
    if (values[FIELD_STA_MAC].at == NULL) {
        *header = names[FIELD_STA_MAC][request->client];
        return DEVICE_REQUEST_MISSING_HEADER;
    }
    if (!request->has_mac) {
        *header = names[FIELD_STA_MAC][request->client];
        return DEVICE_REQUEST_BAD_HEADER;
    }
    if (!mode_is_known) {
        *header = names[FIELD_MODE][request->client];
        return DEVICE_REQUEST_BAD_HEADER;
    }
    return DEVICE_REQUEST_OK;
}

const char *device_client_text(enum device_client client)
{
    static const char *const texts[] = { "plain", "esp8266", "esp32" };
    return texts[client];
}

const char *device_mode_text(enum device_mode mode)
{
    static const char *const texts[] = { "sketch", "fs", "version" };
    return texts[mode];
}
