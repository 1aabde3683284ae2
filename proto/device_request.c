/* Two families of clients say the same things under names that differ in one word; a table says which header fills
 * what. The one thing that makes it hard: nearly everything may be missing, and nothing may be believed. */
#include "proto/device_request.h"

#include <string.h>

enum field {
    FIELD_STA_MAC,
    FIELD_MODE,
    FIELD_VERSION,
    FIELD_SKETCH_MD5,
    FIELD_SKETCH_SHA256,
    FIELD_FREE_SPACE,
    FIELD_SKETCH_SIZE,
    FIELD_CHIP_SIZE,
    FIELD_SDK_VERSION,
    FIELD_COUNT,
};

#define WORD(text)                                                                                                     \
    {                                                                                                                  \
        text, sizeof(text) - 1                                                                                         \
    }

/* A header is <prefix of the family><suffix of the field>, in any case. */
static const struct slice prefixes[] = { [CLIENT_ESP8266] = WORD("x-ESP8266-"), [CLIENT_ESP32] = WORD("x-ESP32-") };
static const struct {
    enum field field;
    struct slice suffix;
    const char *names[3]; /* by enum device_client, for messages */
} fields[] = {
#define ROW(field, suffix)                                                                                             \
    {                                                                                                                  \
        field, WORD(suffix),                                                                                           \
        {                                                                                                              \
            "", "x-ESP8266-" suffix, "x-ESP32-" suffix                                                                 \
        }                                                                                                              \
    }
    ROW(FIELD_STA_MAC, "STA-MAC"),
    ROW(FIELD_MODE, "mode"),
    ROW(FIELD_VERSION, "version"),
    ROW(FIELD_SKETCH_MD5, "sketch-md5"),
    ROW(FIELD_SKETCH_SHA256, "sketch-sha256"),
    ROW(FIELD_FREE_SPACE, "free-space"),
    ROW(FIELD_SKETCH_SIZE, "sketch-size"),
    ROW(FIELD_CHIP_SIZE, "chip-size"),
    ROW(FIELD_SDK_VERSION, "sdk-version"),
#undef ROW
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

/* Collects the values of one family's headers, the first of each. Returns the name of one that came twice, or NULL. */
static const char *collect(const struct header *headers, size_t n, enum device_client client,
                           struct slice values[FIELD_COUNT])
{
    const char *twice = NULL;
    struct slice prefix = prefixes[client];
    for (size_t i = 0; i < n; i++) {
        struct slice name = headers[i].name;
        if (name.len <= prefix.len || !letters_match(name.at, prefix.at, prefix.len)) {
            continue;
        }
        struct slice suffix = { name.at + prefix.len, name.len - prefix.len };
        for (size_t k = 0; k < COUNT_OF(fields); k++) {
            struct slice known = fields[k].suffix;
            if (suffix.len == known.len && letters_match(suffix.at, known.at, known.len)) {
                if (values[fields[k].field].at != NULL) {
                    twice = fields[k].names[client];
                } else {
                    values[fields[k].field] = headers[i].value;
                }
                break;
            }
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
        *header = fields[FIELD_STA_MAC].names[request->client];
        return DEVICE_REQUEST_MISSING_HEADER;
    }
    if (!request->has_mac) {
        *header = fields[FIELD_STA_MAC].names[request->client];
        return DEVICE_REQUEST_BAD_HEADER;
    }
    if (!mode_is_known) {
        *header = fields[FIELD_MODE].names[request->client];
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
