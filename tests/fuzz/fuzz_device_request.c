/* Any request to a small catalog, through parser, router, decision and reply: whoever asks however, the head that goes
 * out is well formed, the status is one that updaters know, and nobody is sent an image for another chip.
 *
 * An input is the lines of a request, ended by line feeds alone so that it can be read and written by hand.
 */
#include "base/buf.h"
#include "base/log.h"
#include "server/password_checks.h"
#include "server/router.h"
#include "tests/support/whole_fleet.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DATE "Sun, 06 Nov 1994 08:49:37 GMT"

static uv_loop_t loop;
static struct catalog *catalog;
static struct assignments *assignments;
static struct offerings *offerings;

/* --- what is there ------------------------------------------------------------------------------------------------ */

static const struct {
    const char *path;
    enum image_kind kind;
    enum chip chip;
    uint8_t digest; /* every byte of its digests, but that run_md5[m] begins with m */
    uint8_t flash_mode;
} files[] = {
    { "door/1.0.0.bin", IMAGE_ESP8266, CHIP_ESP8266, 0x11, 0 },
    { "door/1.1.0.bin", IMAGE_ESP8266, CHIP_ESP8266, 0x12, 0 },
    { "door/1.1.0.bin.gz", IMAGE_ESP8266, CHIP_ESP8266, 0x12, 0 },
    { "gate/1.5.bin.gz", IMAGE_ESP8266, CHIP_ESP8266, 0x13, 2 },
    { "porch/2.0.bin", IMAGE_ESP32, CHIP_ESP32_C3, 0x21, 2 },
    { "porch/2.1.bin", IMAGE_ESP32, CHIP_ESP32_C3, 0x22, 2 },
    { "truc_3_0.ino.mixed.bin", IMAGE_ESP32, CHIP_ESP32, 0x31, 2 },
    { "truc_2_9.ino.mixed.bin", IMAGE_ESP8266, CHIP_ESP8266, 0x32, 3 },
    { "door/1.0.0.fs.bin", IMAGE_LITTLEFS, CHIP_UNKNOWN, 0x41, 0xff },
    { "littlefs_1.2_4M.bin", IMAGE_LITTLEFS, CHIP_UNKNOWN, 0x42, 0xff },
    { "spiffs_1.3_1M.bin.gz", IMAGE_SPIFFS, CHIP_UNKNOWN, 0x43, 0xff },
    { "nat/1.0.user1.bin", IMAGE_ESP8266_SLOT, CHIP_ESP8266, 0x51, 0 },
    { "nat/1.0.user2.bin", IMAGE_ESP8266_SLOT, CHIP_ESP8266, 0x52, 0 },
    { "DOOR-7-g14f53a19.bin", IMAGE_ESP8266, CHIP_ESP8266, 0x61, 0 },
    { "bad/1.0.bin", IMAGE_ESP8266, CHIP_UNKNOWN, 0, 0 },  /* rejected */
    { "late/1.0.bin", IMAGE_ESP8266, CHIP_UNKNOWN, 1, 0 }, /* still being written */
};

static void add_file(size_t i)
{
    struct filename name;
    struct filename_refusal refusal;
    struct file_identity identity = { .inode = i + 1 };
    struct image_facts facts = {
        .kind = files[i].kind,
        .chip = files[i].chip,
        .flash_mode = files[i].flash_mode,
        .flash_bytes = 1u << 20,
        .file_bytes = 100000 + i,
        .image_bytes = 200000,
    };
    enum filename_result result = filename_parse(slice_of(files[i].path), &name, &refusal);
    assert(result == FILENAME_OK);
    (void)result;
    facts.gzip = name.gzip;
    facts.has_run_sha256 = facts.kind == IMAGE_ESP32;
    memset(facts.md5, name.gzip ? 0xee : files[i].digest, 16);
    memset(facts.sha256, files[i].digest, 32);
    memset(facts.run_sha256, files[i].digest, 32);
    for (uint8_t mode = 0; mode < IMAGE_FLASH_MODES; mode++) {
        memset(facts.run_md5[mode], files[i].digest, 16);
        facts.run_md5[mode][0] = facts.kind == IMAGE_ESP8266 ? mode : files[i].digest;
    }
    if (files[i].digest == 0) {
        struct image_verdict verdict = { IMAGE_FAULT_CHECKSUM, "the checksum is wrong", "copy it again" };
        catalog_reject(catalog, files[i].path, &name, &identity, &verdict);
    } else if (files[i].digest == 1) {
        catalog_expect(catalog, files[i].path, &name, &identity, 0);
    } else {
        catalog_add(catalog, files[i].path, &name, &facts, &identity);
    }
}

static void set_up(void)
{
    static const char *const lines[][2] = {
        { "5C:CF:7F:B1:E0:01", "door 1.0.0" },
        { "5C:CF:7F:B1:E0:02", "door newest" },
        { "5C:CF:7F:B1:E0:03", "DOOR-7-g14f53a19" },
        { "5C:CF:7F:B1:E0:04", "gone 9.9" },
    };
    const char *why;
    if (catalog != NULL) {
        return;
    }
    log_configure(LOG_ERROR, LOG_LOGFMT);
    uv_loop_init(&loop);
    catalog = catalog_new();
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        add_file(i);
    }
    catalog_seal(catalog);
    catalog_adopt(catalog);
    assignments = assignments_new();
    offerings = offerings_new(OFFER_NEWEST_TO_ALL);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        enum status status = assignments_add_line(assignments, slice_of(lines[i][0]), slice_of(lines[i][1]), &why);
        assert(status == STATUS_OK);
        (void)status;
    }
}

/* --- what went out ------------------------------------------------------------------------------------------------ */

static bool is_one_of(unsigned status, const unsigned *list)
{
    while (*list != 0 && *list != status) {
        list++;
    }
    return *list != 0;
}

static size_t count_lines(const char *head, const char *name)
{
    size_t count = 0;
    for (const char *at = head; (at = strstr(at, name)) != NULL; at++) {
        count++;
    }
    return count;
}

static void check_head(const struct http_answer *answer)
{
    static const unsigned known[] = { 200, 206, 304, 403, 404, 405, 416, 503, 0 };
    char head[HTTP_REPLY_HEAD_MAX + 1];
    size_t n = http_reply_head(answer, true, DATE, head);
    assert(n <= HTTP_REPLY_HEAD_MAX && is_one_of(answer->status, known));
    head[n] = '\0';
    assert(strlen(head) == n && strcmp(head + n - 4, "\r\n\r\n") == 0);
    assert(strstr(head, "\r\n\r\n") == head + n - 4);
    for (size_t i = 0; i < n; i++) {
        bool line_end = (head[i] == '\r' && head[i + 1] == '\n') || (head[i] == '\n' && i > 0 && head[i - 1] == '\r');
        assert(line_end || (head[i] >= 0x20 && head[i] < 0x7f));
    }
    assert(count_lines(head, "\r\nContent-Length: ") == (answer->status == 304 ? 0 : 1));
    assert(count_lines(head, "\r\nX-Updraft-Reason: ") == answer->has_reason);
    assert(count_lines(head, "\r\nx-MD5: ") == (answer->image != NULL && answer->status == 200));
}

static void check_body(const struct http_answer *answer, const struct http_request *request)
{
    if (answer->image == NULL) {
        assert(answer->text_bytes < sizeof answer->text && answer->delivery == NULL);
        for (size_t i = 0; i < answer->text_bytes; i++) {
            assert(answer->text[i] == '\n' || (answer->text[i] >= 0x20 && answer->text[i] < 0x7f));
        }
        return;
    }
    bool has_bytes = answer->status == 200 || answer->status == 206;
    uint64_t size = answer->image->build.facts.file_bytes;
    assert((answer->delivery != NULL) == (has_bytes && !request->head_only));
    assert(!has_bytes || (answer->length > 0 && answer->first < size && answer->length <= size - answer->first));
}

/* What holds for those clients that say what they are. */
static void check_updater(const struct http_answer *answer, const struct http_request *request)
{
    static const unsigned to_updaters[] = { 200, 304, 403, 404, 0 };
    struct device_request device;
    const char *header;
    enum device_request_result result = device_request_read(request->headers, request->header_count, &device, &header);
    if (device.client == CLIENT_PLAIN || slice_starts_with(request->path, "/native/")) {
        return;
    }
    if (result == DEVICE_REQUEST_OK && device.mode != DEVICE_MODE_VERSION && request->get &&
        request->range.at == NULL) {
        assert(is_one_of(answer->status, to_updaters));
    }
    if (answer->image != NULL && (answer->status == 200 || answer->status == 206)) {
        enum chip chip = answer->image->build.facts.chip;
        assert(chip == CHIP_UNKNOWN || (chip == CHIP_ESP8266) == (device.client == CLIENT_ESP8266));
        assert(device.client != CLIENT_ESP32 || !answer->image->build.facts.gzip);
        assert(device.free_bytes == 0 || device.mode == DEVICE_MODE_FS ||
               answer->image->build.facts.file_bytes <= device.free_bytes);
    }
}

/* --- asking ------------------------------------------------------------------------------------------------------- */

static bool is_check(const struct http_request *request)
{
    return slice_is(request->path, "/update") || slice_starts_with(request->path, "/update/");
}

/* Asks, takes delivery, and returns whether the image was sent whole. */
static bool ask(struct device_api *api, const struct http_request *request)
{
    struct http_answer answer;
    struct delivery_outcome outcome = { .begun = true, .whole = true };
    memset(&answer, 0, offsetof(struct http_answer, text));
    router_answer(api, request, NULL, &answer);
    check_head(&answer);
    check_body(&answer, request);
    check_updater(&answer, request);
    assert(answer.has_reason || !request->get || !is_check(request));
    if (answer.delivery == NULL) {
        return false;
    }
    bool whole = answer.status == 200;
    outcome.bytes = outcome.wanted = answer.length;
    device_api_delivered(api, answer.delivery, &outcome);
    return whole;
}

/* The same check again and again, each answered whole: it must end. */
static void ask_until_held(const struct http_request *request)
{
    static struct metrics metrics;
    static struct password_checks *passwords;
    struct fleet fleet;
    passwords = passwords != NULL ? passwords : password_checks_new(&loop);
    struct device_api api = {
        .passwords = passwords,
        .sources = { .loop = &loop, .catalog = catalog, .fleet = &fleet },
        .fleet = &fleet,
        .metrics = &metrics,
    };
    bool sent = true;
    device_api_open(&api);
    unsigned times = 0;
    whole_fleet_make(&fleet, 4, assignments, offerings, NULL);
    api.sources.fs_gzip = slice_ends_with(request->path, "+");
    while (sent && times <= fleet.settings.loop_guard_max) {
        sent = ask(&api, request);
        times++;
    }
    assert(!sent || !is_check(request));
    device_api_close(&api);
    fleet_close(&fleet);
}

static void add_line(struct buf *head, const uint8_t *line, size_t n)
{
    if (n > 0) {
        (void)buf_add(head, line, n);
        (void)buf_add(head, "\r\n", 2);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http_request request;
    struct http_scan scan = { 0 };
    struct buf head;
    size_t head_bytes, from = 0;
    const char *why;
    set_up();
    buf_init(&head, 2 * HTTP_HEAD_MAX);
    for (size_t i = 0; i <= size; i++) {
        if (i == size || data[i] == '\n') {
            add_line(&head, data + from, i - from);
            from = i + 1;
        }
    }
    (void)buf_add(&head, "\r\n", 2);
    if (http_request_scan(&scan, head.bytes, head.used, &head_bytes, &why) == 200 &&
        http_request_parse(head.bytes + scan.start, head_bytes - scan.start, &request, &why) == 200) {
        ask_until_held(&request);
    }
    buf_close(&head);
    return 0;
}
