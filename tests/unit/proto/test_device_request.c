/* What devices say: the headers of real clients, as they were recorded, and those that no honest client sends.
 *
 * The hard thing: a header that is missing, unreadable or hostile must cost one fact, not the device its update; save
 * the MAC and the mode, without which another device would be answered.
 */
#include "proto/device_request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])
#define HEADERS_MAX     20

struct pair {
    const char *name, *value;
};

/* --- recorded: a request of each client, in the order and spelling of the wire ----------------------------------- */

static const struct pair esp8266_sketch[] = {
    { "Host", "127.0.0.1:8080" },
    { "User-Agent", "ESP8266-http-Update" },
    { "Authorization", "Basic dTpw" },
    { "Connection", "close" },
    { "x-ESP8266-Chip-ID", "11657282" },
    { "x-ESP8266-STA-MAC", "5C:CF:7F:B1:E0:42" },
    { "x-ESP8266-AP-MAC", "5E:CF:7F:B1:E0:42" },
    { "x-ESP8266-free-space", "2052096" },
    { "x-ESP8266-sketch-size", "44304" },
    { "x-ESP8266-sketch-md5", "e4fe53cb9d0f50d4a7b639cda839c186" },
    { "x-ESP8266-chip-size", "4194304" },
    { "x-ESP8266-sdk-version", "2.2.2-dev(38a443e)" },
    { "x-ESP8266-mode", "sketch" },
    { "x-ESP8266-version", "1.0.3" },
    { "Content-Length", "0" },
};

/* LittleFS too is asked for as "spiffs"; no version was given. */
static const struct pair esp8266_fs[] = {
    { "Host", "127.0.0.1:8080" },
    { "User-Agent", "ESP8266-http-Update" },
    { "Connection", "close" },
    { "x-ESP8266-Chip-ID", "11657282" },
    { "x-ESP8266-STA-MAC", "5C:CF:7F:B1:E0:42" },
    { "x-ESP8266-AP-MAC", "5E:CF:7F:B1:E0:42" },
    { "x-ESP8266-free-space", "2052096" },
    { "x-ESP8266-sketch-size", "44304" },
    { "x-ESP8266-sketch-md5", "e4fe53cb9d0f50d4a7b639cda839c186" },
    { "x-ESP8266-chip-size", "4194304" },
    { "x-ESP8266-sdk-version", "2.2.2-dev(38a443e)" },
    { "x-ESP8266-mode", "spiffs" },
    { "Content-Length", "0" },
};

static const struct pair esp8266_version[] = {
    { "Host", "127.0.0.1:8080" },
    { "User-Agent", "ESP8266-http-Update" },
    { "Connection", "close" },
    { "x-ESP8266-Chip-ID", "11657282" },
    { "x-ESP8266-STA-MAC", "5C:CF:7F:B1:E0:42" },
    { "x-ESP8266-AP-MAC", "5E:CF:7F:B1:E0:42" },
    { "x-ESP8266-free-space", "2052096" },
    { "x-ESP8266-sketch-size", "44304" },
    { "x-ESP8266-sketch-md5", "e4fe53cb9d0f50d4a7b639cda839c186" },
    { "x-ESP8266-chip-size", "4194304" },
    { "x-ESP8266-sdk-version", "2.2.2-dev(38a443e)" },
    { "x-ESP8266-mode", "version" },
    { "x-ESP8266-version", "1.0.3" },
    { "Content-Length", "0" },
};

static const struct pair esp32_sketch[] = {
    { "Host", "127.0.0.1:8080" },
    { "User-Agent", "ESP32-http-Update" },
    { "Connection", "close" },
    { "Authorization", "Basic dTpw" },
    { "Cache-Control", "no-cache" },
    { "x-ESP32-STA-MAC", "24:0A:C4:B1:E0:42" },
    { "x-ESP32-AP-MAC", "24:0A:C4:B1:E0:43" },
    { "x-ESP32-free-space", "1310720" },
    { "x-ESP32-sketch-size", "30368" },
    { "x-ESP32-sketch-md5", "294caf7f21a2666fd66949b8c9f78ff9" },
    { "x-ESP32-sketch-sha256", "0BBF18E334BFD2A6B64BB2FD4E8DDD1C6CE5233603357B72BE6F5008D02B01E7" },
    { "x-ESP32-chip-size", "4194304" },
    { "x-ESP32-sdk-version", "v4.4.2" },
    { "x-ESP32-mode", "sketch" },
    { "x-ESP32-version", "1.0.3" },
};

static const struct pair esp32_spiffs[] = {
    { "Host", "127.0.0.1:8080" },
    { "User-Agent", "ESP32-http-Update" },
    { "Connection", "close" },
    { "Cache-Control", "no-cache" },
    { "x-ESP32-STA-MAC", "24:0A:C4:B1:E0:42" },
    { "x-ESP32-AP-MAC", "24:0A:C4:B1:E0:43" },
    { "x-ESP32-free-space", "1310720" },
    { "x-ESP32-sketch-size", "30368" },
    { "x-ESP32-sketch-md5", "294caf7f21a2666fd66949b8c9f78ff9" },
    { "x-ESP32-sketch-sha256", "0BBF18E334BFD2A6B64BB2FD4E8DDD1C6CE5233603357B72BE6F5008D02B01E7" },
    { "x-ESP32-chip-size", "4194304" },
    { "x-ESP32-sdk-version", "v4.4.2" },
    { "x-ESP32-mode", "spiffs" },
    { "x-ESP32-version", "1.0.3" },
};

/* The plain clients of the cores and of ESP-IDF: they name no device. */
static const struct pair esp8266_httpclient[] = {
    { "Host", "127.0.0.1:8080" },
    { "User-Agent", "ESP8266HTTPClient" },
    { "Accept-Encoding", "identity;q=1,chunked;q=0.1,*;q=0" },
    { "Connection", "keep-alive" },
    { "Content-Length", "0" },
};

static const struct pair esp32_httpclient[] = {
    { "Host", "127.0.0.1:8080" },
    { "User-Agent", "ESP32HTTPClient" },
    { "Connection", "keep-alive" },
    { "Accept-Encoding", "identity;q=1,chunked;q=0.1,*;q=0" },
};

static const struct pair idf_https_ota[] = {
    { "User-Agent", "ESP32 HTTP Client/1.0" },
    { "Host", "127.0.0.1:8080" },
    { "Range", "bytes=0-" },
};

/* --- reading them ------------------------------------------------------------------------------------------------ */

struct reading {
    struct header headers[HEADERS_MAX];
    size_t n;
    struct device_request request;
    const char *header;
    enum device_request_result result;
};

static void add(struct reading *reading, const char *name, struct slice value)
{
    assert_true(reading->n < HEADERS_MAX);
    reading->headers[reading->n++] = (struct header){ slice_of(name), value };
}

static void read_pairs(struct reading *reading)
{
    memset(&reading->request, 0x5a, sizeof reading->request);
    reading->header = "";
    reading->result = device_request_read(reading->headers, reading->n, &reading->request, &reading->header);
}

static struct reading read_recorded(const struct pair *pairs, size_t n)
{
    struct reading reading = { .n = 0 };
    for (size_t i = 0; i < n; i++) {
        add(&reading, pairs[i].name, slice_of(pairs[i].value));
    }
    read_pairs(&reading);
    return reading;
}

/* A recorded request in which one header has another value; NULL: it is missing. */
static struct reading read_differing(const struct pair *pairs, size_t n, const char *name, const char *value)
{
    struct reading reading = { .n = 0 };
    bool found = false;
    for (size_t i = 0; i < n; i++) {
        bool same = strcmp(pairs[i].name, name) == 0;
        found = found || same;
        if (!same || value != NULL) {
            add(&reading, pairs[i].name, slice_of(same ? value : pairs[i].value));
        }
    }
    assert_true(found);
    read_pairs(&reading);
    return reading;
}

static struct reading differing_esp8266(const char *name, const char *value)
{
    return read_differing(esp8266_sketch, COUNT_OF(esp8266_sketch), name, value);
}

static void assert_mac(const struct device_request *request, const char *expected)
{
    char text[MAC_TEXT_SIZE];
    assert_true(request->has_mac);
    mac_print(&request->mac, text);
    assert_string_equal(text, expected);
}

static void assert_digest(const uint8_t *digest, size_t n, const char *expected)
{
    char text[65];
    hex_encode(digest, n, text);
    assert_string_equal(text, expected);
}

static void test_recorded_esp8266_sketch(void **state)
{
    (void)state;
    struct reading got = read_recorded(esp8266_sketch, COUNT_OF(esp8266_sketch));
    const struct device_request *r = &got.request;
    assert_int_equal(got.result, DEVICE_REQUEST_OK);
    assert_int_equal(r->client, CLIENT_ESP8266);
    assert_int_equal(r->mode, DEVICE_MODE_SKETCH);
    assert_int_equal(r->chip, CHIP_ESP8266);
    assert_mac(r, "5ccf7fb1e042"); /* the station's, not the access point's */
    assert_true(r->has_md5 && !r->has_sha256);
    assert_digest(r->sketch_md5, 16, "e4fe53cb9d0f50d4a7b639cda839c186");
    assert_int_equal(r->free_bytes, 2052096);
    assert_int_equal(r->sketch_bytes, 44304);
    assert_int_equal(r->flash_bytes, 4194304);
    assert_true(slice_is(r->label, "1.0.3"));
    assert_string_equal(r->version.text, "1.0.3");
    assert_true(slice_is(r->sdk, "2.2.2-dev(38a443e)"));
    assert_true(r->label.at == esp8266_sketch[13].value); /* borrowed */
}

static void test_recorded_esp8266_fs_and_version(void **state)
{
    (void)state;
    struct reading fs = read_recorded(esp8266_fs, COUNT_OF(esp8266_fs));
    assert_int_equal(fs.result, DEVICE_REQUEST_OK);
    assert_int_equal(fs.request.mode, DEVICE_MODE_FS);
    assert_null(fs.request.label.at); /* no version given: absent, not empty */
    assert_string_equal(fs.request.version.text, "");
    struct reading version = read_recorded(esp8266_version, COUNT_OF(esp8266_version));
    assert_int_equal(version.result, DEVICE_REQUEST_OK);
    assert_int_equal(version.request.mode, DEVICE_MODE_VERSION);
}

static void test_recorded_esp32(void **state)
{
    (void)state;
    struct reading got = read_recorded(esp32_sketch, COUNT_OF(esp32_sketch));
    const struct device_request *r = &got.request;
    assert_int_equal(got.result, DEVICE_REQUEST_OK);
    assert_int_equal(r->client, CLIENT_ESP32);
    assert_int_equal(r->mode, DEVICE_MODE_SKETCH);
    assert_int_equal(r->chip, CHIP_UNKNOWN); /* it may be an S3 */
    assert_mac(r, "240ac4b1e042");
    assert_true(r->has_md5 && r->has_sha256);
    assert_digest(r->sketch_md5, 16, "294caf7f21a2666fd66949b8c9f78ff9");
    assert_digest(r->sketch_sha256, 32, "0bbf18e334bfd2a6b64bb2fd4e8ddd1c6ce5233603357b72be6f5008d02b01e7");
    assert_int_equal(r->free_bytes, 1310720);
    assert_int_equal(r->sketch_bytes, 30368);
    assert_int_equal(r->flash_bytes, 4194304);
    assert_true(slice_is(r->label, "1.0.3"));
    assert_true(slice_is(r->sdk, "v4.4.2"));
    struct reading fs = read_recorded(esp32_spiffs, COUNT_OF(esp32_spiffs));
    assert_int_equal(fs.result, DEVICE_REQUEST_OK);
    assert_int_equal(fs.request.mode, DEVICE_MODE_FS);
}

/* Else a browser, or a plain client of the same chip, would be taken for an updater and answered 304. */
static void test_recorded_plain_clients(void **state)
{
    (void)state;
    const struct reading plain[] = {
        read_recorded(esp8266_httpclient, COUNT_OF(esp8266_httpclient)),
        read_recorded(esp32_httpclient, COUNT_OF(esp32_httpclient)),
        read_recorded(idf_https_ota, COUNT_OF(idf_https_ota)),
        differing_esp8266("User-Agent", "esp8266-http-update"),
        differing_esp8266("User-Agent", "ESP8266-http-Update/1.0"),
        differing_esp8266("User-Agent", ""),
        differing_esp8266("User-Agent", NULL),
        read_recorded(esp8266_sketch, 0),
    };
    for (size_t i = 0; i < COUNT_OF(plain); i++) {
        const struct device_request *r = &plain[i].request;
        assert_int_equal(plain[i].result, DEVICE_REQUEST_NOT_AN_UPDATER);
        assert_int_equal(r->client, CLIENT_PLAIN);
        assert_int_equal(r->chip, CHIP_UNKNOWN);
        assert_false(r->has_mac || r->has_md5 || r->has_sha256);
        assert_int_equal(r->free_bytes + r->flash_bytes, 0);
    }
}

/* --- old cores --------------------------------------------------------------------------------------------------- */

/* 2.0.0 had no mode, no digest, no chip id: else it would be locked out for ever, the update being what it needs. */
static void test_oldest_core(void **state)
{
    (void)state;
    static const struct pair oldest[] = {
        { "User-Agent", "ESP8266-http-Update" },
        { "x-ESP8266-STA-MAC", "5C:CF:7F:B1:E0:42" },
    };
    struct reading got = read_recorded(oldest, COUNT_OF(oldest));
    assert_int_equal(got.result, DEVICE_REQUEST_OK);
    assert_int_equal(got.request.mode, DEVICE_MODE_SKETCH);
    assert_false(got.request.has_md5 || got.request.has_sha256);
    assert_int_equal(got.request.free_bytes, 0);
    assert_int_equal(got.request.sketch_bytes, 0);
    assert_int_equal(got.request.flash_bytes, 0);
    assert_null(got.request.label.at);
    assert_null(got.request.sdk.at);
}

/* HTTP/1.1 proxies may send names in lower case. */
static void test_names_in_any_case(void **state)
{
    (void)state;
    static const struct pair lower[] = {
        { "user-agent", "ESP32-http-Update" },
        { "x-esp32-sta-mac", "24:0A:C4:B1:E0:42" },
        { "X-ESP32-MODE", "SPIFFS" },
        { "x-esp32-version", "7" },
    };
    struct reading got = read_recorded(lower, COUNT_OF(lower));
    assert_int_equal(got.result, DEVICE_REQUEST_OK);
    assert_int_equal(got.request.mode, DEVICE_MODE_FS);
    assert_true(slice_is(got.request.label, "7"));
}

/* Else a device could lend itself facts of the other family: an ESP8266's digest of 32 bytes, an ESP32's room. */
static void test_headers_of_the_other_family_say_nothing(void **state)
{
    (void)state;
    struct reading reading = { .n = 0 };
    add(&reading, "User-Agent", slice_of("ESP8266-http-Update"));
    add(&reading, "x-ESP8266-STA-MAC", slice_of("5C:CF:7F:B1:E0:42"));
    add(&reading, "x-ESP32-STA-MAC", slice_of("24:0A:C4:B1:E0:42"));
    add(&reading, "x-ESP32-free-space", slice_of("1"));
    add(&reading, "x-ESP32-mode", slice_of("spiffs"));
    add(&reading, "x-ESP8266-", slice_of("1"));
    add(&reading, "x-ESP8266-mode-", slice_of("spiffs"));
    add(&reading, "mode", slice_of("spiffs"));
    read_pairs(&reading);
    assert_int_equal(reading.result, DEVICE_REQUEST_OK);
    assert_mac(&reading.request, "5ccf7fb1e042");
    assert_int_equal(reading.request.mode, DEVICE_MODE_SKETCH);
    assert_int_equal(reading.request.free_bytes, 0);
}

/* --- refused ----------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name, *value; /* NULL: missing */
    enum device_request_result result;
    const char *header;
} refused[] = {
    { "x-ESP8266-STA-MAC", NULL, DEVICE_REQUEST_MISSING_HEADER, "x-ESP8266-STA-MAC" },
    { "x-ESP8266-STA-MAC", "", DEVICE_REQUEST_BAD_HEADER, "x-ESP8266-STA-MAC" },
    { "x-ESP8266-STA-MAC", "00:00:00:00:00:00", DEVICE_REQUEST_BAD_HEADER, "x-ESP8266-STA-MAC" },
    { "x-ESP8266-STA-MAC", "FF:FF:FF:FF:FF:FF", DEVICE_REQUEST_BAD_HEADER, "x-ESP8266-STA-MAC" },
    { "x-ESP8266-STA-MAC", "5C:CF:7F:B1:E0", DEVICE_REQUEST_BAD_HEADER, "x-ESP8266-STA-MAC" },
    { "x-ESP8266-STA-MAC", "5C:CF:7F:B1:E0:42, 5C:CF:7F:B1:E0:43", DEVICE_REQUEST_BAD_HEADER, "x-ESP8266-STA-MAC" },
    { "x-ESP8266-mode", "", DEVICE_REQUEST_BAD_HEADER, "x-ESP8266-mode" },
    { "x-ESP8266-mode", "sketch2", DEVICE_REQUEST_BAD_HEADER, "x-ESP8266-mode" },
    { "x-ESP8266-mode", "firmware", DEVICE_REQUEST_BAD_HEADER, "x-ESP8266-mode" },
};

/* Else one device would be answered as another, or flash a sketch where it asked for a file system. */
static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        struct reading got = differing_esp8266(refused[i].name, refused[i].value);
        if (got.result != refused[i].result || strcmp(got.header, refused[i].header) != 0) {
            fail_msg("%s: \"%s\": %d, %s", refused[i].name, refused[i].value, got.result, got.header);
        }
        /* the rest is there for the log */
        assert_int_equal(got.request.client, CLIENT_ESP8266);
        assert_true(slice_is(got.request.label, "1.0.3"));
        assert_true(got.request.has_md5);
    }
    struct reading esp32 = read_differing(esp32_sketch, COUNT_OF(esp32_sketch), "x-ESP32-STA-MAC", NULL);
    assert_int_equal(esp32.result, DEVICE_REQUEST_MISSING_HEADER);
    assert_string_equal(esp32.header, "x-ESP32-STA-MAC"); /* in the client's own words */
}

/* Else a proxy and we could read two different devices in one request. */
static void test_twice(void **state)
{
    (void)state;
    static const char *const names[] = {
        "x-ESP8266-STA-MAC",     "x-ESP8266-mode",       "x-ESP8266-version",   "x-ESP8266-sketch-md5",
        "x-ESP8266-sketch-size", "x-ESP8266-free-space", "x-ESP8266-chip-size", "x-ESP8266-sdk-version",
    };
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct reading reading = { .n = 0 };
        for (size_t k = 0; k < COUNT_OF(esp8266_sketch); k++) {
            add(&reading, esp8266_sketch[k].name, slice_of(esp8266_sketch[k].value));
        }
        add(&reading, names[i], slice_of("")); /* even an empty one */
        read_pairs(&reading);
        assert_int_equal(reading.result, DEVICE_REQUEST_BAD_HEADER);
        assert_string_equal(reading.header, names[i]);
        assert_mac(&reading.request, "5ccf7fb1e042"); /* so that the log can name who it was */
    }
}

/* --- one fact lost ----------------------------------------------------------------------------------------------- */

static const struct {
    const char *value;
    uint64_t number;
} numbers[] = {
    { "0", 0 },
    { "4294967296", 1ull << 32 },
    { "4294967297", 0 },           /* no flash is that large */
    { "18446744073709551617", 0 }, /* would wrap round to 1: nothing would fit */
    { "-1", 0 },
    { "1e6", 0 },
    { "0x100000", 0 },
    { "1048576 ", 0 },
    { "1048576,1", 0 },
    { "", 0 },
};

/* Else a number that makes no sense would refuse every image, or let one through that cannot fit. */
static void test_numbers_out_of_range_count_as_not_said(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        struct reading room = differing_esp8266("x-ESP8266-free-space", numbers[i].value);
        struct reading flash = differing_esp8266("x-ESP8266-chip-size", numbers[i].value);
        struct reading size = differing_esp8266("x-ESP8266-sketch-size", numbers[i].value);
        assert_int_equal(room.result, DEVICE_REQUEST_OK);
        if (room.request.free_bytes != numbers[i].number || flash.request.flash_bytes != numbers[i].number ||
            size.request.sketch_bytes != numbers[i].number) {
            fail_msg("\"%s\" was read", numbers[i].value);
        }
    }
}

static void test_unreadable_digests_count_as_not_said(void **state)
{
    (void)state;
    static const char *const digests[] = {
        "",
        "e4fe53cb9d0f50d4a7b639cda839c18",   /* 31 */
        "e4fe53cb9d0f50d4a7b639cda839c1866", /* 33 */
        "e4fe53cb9d0f50d4a7b639cda839c18g",
        "0BBF18E334BFD2A6B64BB2FD4E8DDD1C6CE5233603357B72BE6F5008D02B01E7", /* a SHA-256 */
    };
    for (size_t i = 0; i < COUNT_OF(digests); i++) {
        struct reading got = differing_esp8266("x-ESP8266-sketch-md5", digests[i]);
        assert_int_equal(got.result, DEVICE_REQUEST_OK);
        assert_false(got.request.has_md5);
    }
    struct reading upper = differing_esp8266("x-ESP8266-sketch-md5", "E4FE53CB9D0F50D4A7B639CDA839C186");
    assert_true(upper.request.has_md5);
    assert_digest(upper.request.sketch_md5, 16, "e4fe53cb9d0f50d4a7b639cda839c186");
}

static const struct {
    struct slice label;
    bool is_version;
} labels[] = {
    { { "13.4.0(tasmota)", 15 }, true },
    { { "0_4_99", 6 }, true },
    { { "DOOR-7-g14f53a19", 16 }, true }, /* a digit is in it; the decision compares it as a label first */
    { { "nightly", 7 }, false },
    { { "1.0\0.1", 6 }, false },
    { { "1.0\r\nX-Forged: 1", 16 }, false },
    { { "\x1b[2J1.0", 7 }, false },
    { { "\xc3\xa4.1", 4 }, false },
    { { "1.000000000000000000000000000000000000000000000000000000000000000", 65 }, false }, /* one byte too long */
};

/* Any bytes may come as a version: they are kept as sent, and are no version unless they read as one. */
static void test_hostile_versions(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(labels); i++) {
        struct reading reading = { .n = 0 };
        add(&reading, "User-Agent", slice_of("ESP8266-http-Update"));
        add(&reading, "x-ESP8266-STA-MAC", slice_of("5C:CF:7F:B1:E0:42"));
        add(&reading, "x-ESP8266-version", labels[i].label);
        read_pairs(&reading);
        assert_int_equal(reading.result, DEVICE_REQUEST_OK);
        assert_int_equal(reading.request.label.len, labels[i].label.len);
        assert_memory_equal(reading.request.label.at, labels[i].label.at, labels[i].label.len);
        if ((reading.request.version.text[0] != '\0') != labels[i].is_version) {
            fail_msg("label %zu should %sbe a version", i, labels[i].is_version ? "" : "not ");
        }
    }
    struct reading empty = differing_esp8266("x-ESP8266-version", "");
    assert_null(empty.request.label.at); /* said to be nothing is not said */
}

static void test_mac_spellings(void **state)
{
    (void)state;
    static const char *const macs[] = { "5C:CF:7F:B1:E0:42", "5c:cf:7f:b1:e0:42", "5C-CF-7F-B1-E0-42", "5ccf7fb1e042" };
    for (size_t i = 0; i < COUNT_OF(macs); i++) {
        struct reading got = differing_esp8266("x-ESP8266-STA-MAC", macs[i]);
        assert_int_equal(got.result, DEVICE_REQUEST_OK);
        assert_mac(&got.request, "5ccf7fb1e042");
    }
}

static void test_modes(void **state)
{
    (void)state;
    static const struct {
        const char *word;
        enum device_mode mode;
    } modes[] = {
        { "sketch", DEVICE_MODE_SKETCH }, { "spiffs", DEVICE_MODE_FS },       { "littlefs", DEVICE_MODE_FS },
        { "filesystem", DEVICE_MODE_FS }, { "version", DEVICE_MODE_VERSION },
    };
    for (size_t i = 0; i < COUNT_OF(modes); i++) {
        struct reading got = differing_esp8266("x-ESP8266-mode", modes[i].word);
        assert_int_equal(got.result, DEVICE_REQUEST_OK);
        assert_int_equal(got.request.mode, modes[i].mode);
    }
    assert_string_equal(device_mode_text(DEVICE_MODE_FS), "fs");
    assert_string_equal(device_client_text(CLIENT_ESP32), "esp32");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded_esp8266_sketch),
        cmocka_unit_test(test_recorded_esp8266_fs_and_version),
        cmocka_unit_test(test_recorded_esp32),
        cmocka_unit_test(test_recorded_plain_clients),
        cmocka_unit_test(test_oldest_core),
        cmocka_unit_test(test_names_in_any_case),
        cmocka_unit_test(test_headers_of_the_other_family_say_nothing),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_twice),
        cmocka_unit_test(test_numbers_out_of_range_count_as_not_said),
        cmocka_unit_test(test_unreadable_digests_count_as_not_said),
        cmocka_unit_test(test_hostile_versions),
        cmocka_unit_test(test_mac_spellings),
        cmocka_unit_test(test_modes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
