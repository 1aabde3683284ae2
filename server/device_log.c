/* What the log says of a check, of an image that could not be had, and of a transfer: one line each, when its outcome
 * is decided. docs/operations.md and the protocol cases rely on the keys. */
#include "server/device_parts.h"

#include "base/log.h"

#include <stdio.h>

const char *visit_peer(struct visit *visit)
{
    if (visit->peer[0] == '\0' && visit->stream != NULL) {
        size_t used = 0;
        if (visit->api->proxies.count > 0 && visit_client(visit)->forwarded) {
            char named[HOST_TEXT_SIZE];
            client_address_print(&visit->client, named, sizeof named);
            used = (size_t)snprintf(visit->peer, sizeof visit->peer, "%s via ", named);
        }
        visit->stream->ops->peer(visit->stream, visit->peer + used, sizeof visit->peer - used);
    }
    return visit->peer;
}

static bool is_said(struct visit *visit)
{
    const struct device_request *device = &visit->check.device;
    struct device_asker asker = { .mac = device->has_mac ? &device->mac : NULL, .address = visit_client(visit)->bytes };
    visit->is_left_out = !device_quota_takes(&visit->api->quota, &asker, visit->check.decision.reason,
                                             clock_moment(visit->api->sources.loop).ms);
    return !visit->is_left_out;
}

void device_log_busy(struct visit *visit, unsigned asks)
{
    char mac[MAC_TEXT_SIZE];
    struct log_line line;
    mac_print(&visit->check.device.mac, mac);
    log_begin(&line, LOG_WARN, "device_busy");
    log_text(&line, "device", mac);
    log_slice(&line, "type", visit->check.type);
    log_number(&line, "asks", asks);
    log_text(&line, "within", "1m");
    log_text(&line, "peer", visit_peer(visit));
    log_text(&line, "remedy", "it asks far too often: look for a pause in its sketch, or for a restart in a loop");
    log_end(&line);
}

static void log_runs_and_gets(struct log_line *line, const struct check *check)
{
    char digest[33];
    if (check->running != NULL) {
        log_text(line, "runs", check->running->path);
    }
    if (check->decision.build != NULL) {
        log_text(line, "to", build_name(check->decision.build));
        log_text(line, "image", image_of_build(check->decision.build)->path);
        hex_encode(check->decision.build->facts.md5, 16, digest);
        log_text(line, "image_md5", digest);
    }
    if (check->decision.detail[0] != '\0') {
        log_text(line, "why", check->decision.detail);
    } else if (check->decision.build == NULL && check->input.assigned != NULL) {
        log_text(line, "assigned", check->input.assigned);
    }
}

void device_log_check(struct visit *visit, unsigned status)
{
    const struct device_request *device = &visit->check.device;
    enum log_level level = reason_is_routine(visit->check.decision.reason) ? LOG_DEBUG : LOG_INFO;
    struct log_line line;
    char mac[MAC_TEXT_SIZE], digest[65];
    if (!log_enabled(level) || (level == LOG_INFO && !is_said(visit))) {
        return;
    }
    log_begin(&line, level, "check");
    log_text(&line, "reason", reason_word(visit->check.decision.reason));
    log_number(&line, "status", status);
    if (device->has_mac) {
        mac_print(&device->mac, mac);
        log_text(&line, "device", mac);
    }
    log_text(&line, "client", device_client_text(device->client));
    if (device->client == CLIENT_PLAIN || visit->check.type.len == 0) {
        log_slice(&line, "path", visit->request->path);
    }
    if (visit->check.type.len > 0) {
        log_slice(&line, "type", visit->check.type);
    }
    if (device->client != CLIENT_PLAIN) {
        log_text(&line, "mode", device_mode_text(device->mode));
    }
    log_slice(&line, "from", device->label);
    if (device->has_md5) {
        hex_encode(device->sketch_md5, 16, digest);
        log_text(&line, "md5", digest);
    }
    if (device->has_sha256) {
        hex_encode(device->sketch_sha256, 32, digest);
        log_text(&line, "sha256", digest);
    }
    log_runs_and_gets(&line, &visit->check);
    if (visit->user[0] != '\0') {
        log_text(&line, "user", visit->user);
    }
    log_text(&line, "peer", visit_peer(visit));
    log_end(&line);
}

static void log_who(struct log_line *line, const struct delivery *delivery)
{
    char mac[MAC_TEXT_SIZE];
    if (delivery->has_mac) {
        mac_print(&delivery->key.mac, mac);
        log_text(line, "device", mac);
    }
    log_text(line, "type", delivery->type);
    log_text(line, "mode", delivery->fs ? "fs" : "sketch");
    log_text(line, "from", delivery->from);
    log_text(line, "to", delivery->to);
}

/* The line of a transfer, where its check had none. */
static bool goes_with_its_check(struct device_api *api, const struct delivery *delivery)
{
    api->quota.left_out += delivery->is_left_out;
    return delivery->is_left_out;
}

void device_log_unavailable(struct device_api *api, const struct delivery *delivery, const struct image *image,
                            enum status status, unsigned answered)
{
    struct log_line line;
    bool replaced = status == STATUS_CHANGED || status == STATUS_NOT_FOUND;
    if (goes_with_its_check(api, delivery)) {
        return;
    }
    log_begin(&line, replaced ? LOG_INFO : LOG_WARN, "check");
    log_text(&line, "reason", reason_word(REASON_NOT_YET));
    log_number(&line, "status", answered);
    log_who(&line, delivery);
    log_text(&line, "image", image->path);
    log_text(&line, "why",
             replaced                 ? "its file is being replaced, or was deleted"
             : status == STATUS_LIMIT ? "image-memory is in use by other images: raise it"
                                      : status_text(status));
    log_text(&line, "peer", delivery->peer);
    log_end(&line);
}

void device_log_ended(struct device_api *api, const struct delivery *delivery, const struct delivery_outcome *outcome)
{
    struct log_line line;
    if (goes_with_its_check(api, delivery)) {
        return;
    }
    log_begin(&line, LOG_INFO, outcome->whole ? "update_sent" : "update_cut");
    log_who(&line, delivery);
    log_number(&line, "bytes", (int64_t)outcome->bytes);
    if (!outcome->whole) {
        log_number(&line, "of", (int64_t)outcome->wanted);
        log_text(&line, "why", outcome->why);
    }
    log_number(&line, "ms", (int64_t)outcome->ms);
    log_text(&line, "peer", delivery->peer);
    log_end(&line);
}
