/* Asking, and what comes of it: the answer's head, the body, and whether the device takes the image. Real clients check
 * little and in a certain order; what they overlook, and a server must not do, is reported as a violation besides. */
#include "tests/sim/device_inside.h"

#include "base/text.h"
#include "tests/sim/fleet.h"
#include "tests/sim/request.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define BODY_ESP8266_MS 60000 /* Updater::writeStream */
#define BODY_ESP32_MS   30000 /* 300 times 100 ms */

void device_forget_download(struct device *device)
{
    image_stream_free(device->stream);
    device->stream = NULL;
    device->get = NULL;
}

/* Other answers than 200, as ESP8266httpUpdate and HTTPUpdate take them. */
static void take_refusal(struct device *device, unsigned status)
{
    char error[sizeof device->error];
    if (status == 304) {
        device_settle(device);
        return;
    }
    snprintf(error, sizeof error, "answered %u %s", status, device->last_reason);
    device_fail(device, error);
}

static void refuse_image(struct device *device, enum remark remark)
{
    device->type->counts.remarks[remark]++;
    device->type->counts.refused++;
    device_forget_download(device);
    device_fail(device, remark_text(remark));
}

static struct request_facts facts_of(const struct device *device)
{
    return (struct request_facts){
        .esp32 = device->type->esp32,
        .fs = device->fs,
        .url = device->url,
        .mac = device->mac,
        .flash_bytes = device->flash_bytes,
        .sketch_bytes = device->running.bytes,
        .md5 = device->running.md5,
        .sha256 = device->running.sha256,
        .version = device->fs ? device->fs_version : device->running.version,
    };
}

/* ESP8266: what lies behind the sketches; ESP32: the rest of the flash. Roughly: real layouts leave some of it out. */
static uint64_t room_of(const struct device *device)
{
    struct request_facts facts = facts_of(device);
    return device->fs ? device->flash_bytes / 2 : request_free_space(&facts);
}

static void check_head(struct device *device, const struct http_head *head)
{
    char detail[64];
    if (!head->has_length && head->status != 304) {
        snprintf(detail, sizeof detail, "status %u", head->status);
        report_violation(device, VIOLATION_NO_LENGTH, detail);
    }
    if (head->status == 200 && strlen(head->md5) != 32) {
        report_violation(device, VIOLATION_NO_MD5, head->md5);
    }
}

static bool download_begins(struct device *device, const struct http_head *head)
{
    uint8_t claimed[16];
    if (!head->has_length || head->length == 0) {
        device_forget_download(device);
        device_fail(device, "no Content-Length");
        return false;
    }
    if (head->length > room_of(device)) {
        refuse_image(device, REMARK_TOO_BIG);
        return false;
    }
    device->body_bytes = 0;
    device->body_length = head->length;
    device->spoiled = false;
    memcpy(device->body_md5, head->md5, sizeof head->md5);
    memcpy(device->body_file, head->file, sizeof head->file);
    device->taker = (struct image_taker){ device->type->esp32, device->fs, device->flash_mode };
    bool has_md5 = hex_decode(slice_of(head->md5), claimed, sizeof claimed);
    device->stream =
        image_stream_new(&device->taker, has_md5 ? fleet_known_image(device->fleet, claimed, &device->taker) : NULL);
    char what[200];
    snprintf(what, sizeof what, "%s%s%" PRIu64 " bytes", device->body_file, device->body_file[0] != '\0' ? ", " : "",
             device->body_length);
    device_set_state(device, DEVICE_DOWNLOADING, what);
    device_tell(device, "downloading", device->command != NULL ? device->command->version : NULL, NULL);
    return true;
}

static bool on_head(void *owner, const struct http_head *head)
{
    struct device *device = owner;
    device->last_status = head->status;
    snprintf(device->last_reason, sizeof device->last_reason, "%s", head->reason);
    report_answer(&device->type->counts, head->status, head->reason);
    check_head(device, head);
    bool wants = false;
    if (head->status == 200) {
        wants = download_begins(device, head);
    } else {
        device_forget_download(device);
        take_refusal(device, head->status);
    }
    device_begin(device);
    return wants;
}

/* --- downloading -------------------------------------------------------------------------------------------------- */

/* Byte 3 of an ESP8266's image: the flash size that it was linked for (ESP.magicFlashChipSize). */
static uint32_t flash_of_header(uint8_t byte)
{
    static const uint32_t kib[16] = { 512, 256, 1024, 2048, 4096, 2048, 4096, 0, 8192, 16384 };
    return kib[byte >> 4] << 10;
}

/* The first four bytes decide whether the Updater begins at all. false: refused. */
static bool check_start(struct device *device)
{
    size_t n;
    const uint8_t *first = image_stream_first(device->stream, &n);
    bool gzip = !device->type->esp32 && first[0] == 0x1f && first[1] == 0x8b;
    if (device->fs || n < 4) {
        return true;
    }
    if (first[0] != 0xe9 && !gzip) {
        refuse_image(device, REMARK_BAD_START);
        return false;
    }
    if (!gzip && !device->type->esp32 && flash_of_header(first[3]) > device->flash_bytes) {
        refuse_image(device, REMARK_BIGGER_FLASH);
        return false;
    }
    return true;
}

static void cut(struct device *device, const char *error)
{
    device->cut++;
    device->type->counts.cut++;
    device_forget_download(device);
    device_fail(device, error);
}

static uint64_t fault_at(const struct device *device)
{
    const struct misbehaviour_share *shares = device->fleet->options->shares;
    uint64_t percent = device->misbehaviour == MISBEHAVIOUR_DROP ? shares[MISBEHAVIOUR_DROP].at_percent : 50;
    return device->body_length * percent / 100;
}

static bool on_body(void *owner, uint8_t *bytes, size_t n)
{
    struct device *device = owner;
    uint64_t from = device->body_bytes, at = fault_at(device);
    bool crosses = from <= at && at < from + n;
    bool drops = crosses && device_has_fault(device, MISBEHAVIOUR_DROP);
    n = drops ? (size_t)(at - from) : n;
    if (crosses && device_use_fault(device, MISBEHAVIOUR_BAD_MD5)) {
        bytes[at - from] ^= 0x10;
        device->spoiled = true;
    }
    device->body_bytes += n;
    device->type->counts.bytes += n;
    image_stream_add(device->stream, bytes, n);
    fleet_event(device->fleet);
    if (from < 4 && !check_start(device)) {
        return false;
    }
    if (drops) {
        device_use_fault(device, MISBEHAVIOUR_DROP);
        cut(device, "closed the download halfway (--drop)");
        return false;
    }
    if (crosses && device_use_fault(device, MISBEHAVIOUR_STALL)) {
        http_pause(device->get);
        device_set_state_for(device, DEVICE_STALLED, (double)device->fleet->options->stall_ms);
    }
    return true;
}

void device_stall_over(struct device *device)
{
    http_abort(device->get);
    cut(device, "stopped reading (--stall)");
}

/* The Updater's comparison: arduino-esp32's minds the case. */
static bool md5_holds(const struct device *device, const struct image_result *result)
{
    char md5[33];
    hex_encode(result->sent_md5, 16, md5);
    return device->body_md5[0] == '\0' ||
           (device->type->esp32 ? strcmp(md5, device->body_md5) == 0 : strcasecmp(md5, device->body_md5) == 0);
}

/* false, and said, where the device would not have taken the image. */
static bool check_image(struct device *device, const struct image_result *result)
{
    bool other = !device->fs && result->family != IMAGE_FAMILY_UNKNOWN &&
                 (result->family == IMAGE_FAMILY_ESP32) != device->type->esp32;
    const char *error = NULL;
    if (!md5_holds(device, result)) {
        error = device->spoiled ? "wrong MD5 (--bad-md5)" : "wrong MD5";
        if (!device->spoiled) {
            report_violation(device, VIOLATION_WRONG_MD5, device->body_md5);
        }
    } else if (other) {
        error = "for another chip";
        report_violation(device, VIOLATION_OTHER_CHIP, device->body_file);
    } else if (!device->fs && !result->whole) {
        error = remark_text(REMARK_BAD_GZIP);
        device->type->counts.remarks[REMARK_BAD_GZIP]++;
    }
    if (error != NULL) {
        device->bad++;
        device->type->counts.bad++;
        device_forget_download(device);
        device_fail(device, error);
    }
    return error == NULL;
}

/* The version inside of a file's name ("truc_0_4_9.ino.d1_mini.bin", "0.4.10.bin"), standing for the label that is
 * compiled into the image; of an ESP32's image, its own. Returns false where there is none. */
static bool label_of_file(const struct device *device, const struct image_result *result, char *to, size_t size)
{
    const char *file = device->body_file;
    const char *start = file;
    while (*start != '\0' && !(*start >= '0' && *start <= '9' && (start == file || start[-1] == '_'))) {
        start++;
    }
    const char *end = strstr(start, ".ino.");
    end = end != NULL ? end : strstr(start, ".bin");
    if (end != NULL && end > start) {
        return slice_copy((struct slice){ start, (size_t)(end - start) }, to, size);
    }
    return result->app_version[0] != '\0' && slice_copy(slice_of(result->app_version), to, size);
}

static void set_label(struct device *device, const struct image_result *result)
{
    char md5[33];
    const struct command *command = device->command;
    hex_encode(result->sent_md5, 16, md5);
    bool commanded = command != NULL && (command->md5[0] == '\0' || strcmp(command->md5, md5) == 0);
    if (command != NULL && !commanded) {
        device->type->counts.remarks[REMARK_NOT_AS_COMMANDED]++;
    }
    snprintf(device->next.version, sizeof device->next.version, "%s",
             device->fs ? device->fs_version : device->running.version);
    if (device_use_fault(device, MISBEHAVIOUR_WRONG_LABEL)) {
        return;
    }
    if (commanded && command->version[0] != '\0') {
        memcpy(device->next.version, command->version, sizeof device->next.version);
    } else {
        label_of_file(device, result, device->next.version, sizeof device->next.version);
    }
}

static void take_whole(struct device *device)
{
    struct image_result result;
    image_stream_result(device->stream, &result);
    if (!check_image(device, &result)) {
        return;
    }
    device->whole++;
    device->type->counts.whole++;
    memcpy(device->next.md5, device->fs ? device->running.md5 : result.md5, sizeof result.md5);
    memcpy(device->next.sha256, device->fs ? device->running.sha256 : result.sha256, sizeof result.sha256);
    device->next.bytes = device->fs ? device->running.bytes : result.bytes;
    set_label(device, &result);
    if (!device->fs) {
        fleet_image_taken(device, &device->taker, &result);
    }
    device_forget_download(device);
    device_set_state_for(device, DEVICE_FLASHING, device_scaled(device, device->fleet->options->flash_ms));
}

static void on_end(void *owner, enum http_end end, int error)
{
    struct device *device = owner;
    device->get = NULL;
    if (end == HTTP_END_EXCESS) {
        report_violation(device, VIOLATION_WRONG_LENGTH, device->body_file);
    }
    if (end == HTTP_END_WHOLE || end == HTTP_END_EXCESS) {
        take_whole(device);
        return;
    }
    device->type->counts.failures[end]++;
    char why[sizeof device->error];
    snprintf(why, sizeof why, "%s%s%s", http_end_text(end), error != 0 ? ": " : "",
             error != 0 ? uv_strerror(error) : "");
    if (device->stream != NULL) {
        cut(device, why);
    } else {
        device_fail(device, why);
    }
    device_begin(device);
}

void device_ask(struct device *device)
{
    static const struct http_hooks hooks = { on_head, on_body, on_end };
    const struct options *options = device->fleet->options;
    struct request_facts facts = facts_of(device);
    char request[REQUEST_BYTES_MAX];
    struct http_wish wish = {
        .url = device->url,
        .request = request,
        .request_bytes = request_write(&facts, request),
        .rate = options->rate,
        .small_window = device_has_fault(device, MISBEHAVIOUR_DROP) || device_has_fault(device, MISBEHAVIOUR_STALL),
        .head_ms = options->http_timeout_ms,
        .body_ms = device->type->esp32 ? BODY_ESP32_MS : BODY_ESP8266_MS,
    };
    device->checks++;
    device->type->counts.checks++;
    device_set_state(device, DEVICE_CHECKING, NULL);
    device->get = http_get(device->fleet->loop, &wish, &hooks, device);
}
