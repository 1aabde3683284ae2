/* What check-ins and transfers prove, and who hears of it: the loop guard, the devices seen, the rollouts, the metrics,
 * the addresses in use. The one place where they do: whoever is to follow the fleet, or to remember it, is told here.
 *
 * What makes it hard: what a device says of what it runs is a fact whatever it is answered, while a transfer proves
 * nothing but that its bytes arrived. None of those told may wait.
 */
#include "server/device_parts.h"

#include "base/log.h"

#include <string.h>

/* --- who ---------------------------------------------------------------------------------------------------------- */

const struct client_address *visit_client(struct visit *visit)
{
    if (!visit->has_client && visit->stream != NULL) {
        visit->client = client_address_find(&visit->api->proxies, visit->stream->ops->remote(visit->stream),
                                            visit->request->headers, visit->request->header_count);
    }
    visit->has_client = true;
    return &visit->client;
}

/* --- checks ------------------------------------------------------------------------------------------------------- */

/* The digest says which build it is, its header another version: the label inside the sketch was forgotten. Once an
 * image. */
static void warn_of_wrong_label(const struct visit *visit)
{
    const struct device_request *device = &visit->check.device;
    struct image *image = visit->check.running;
    if (image == NULL || image->label_doubted || device->mode == DEVICE_MODE_FS || device->version.text[0] == '\0' ||
        image->build.version.text[0] == '\0' || version_compare(&device->version, &image->build.version) == 0) {
        return;
    }
    image->label_doubted = true;
    LOG_EVENT(LOG_WARN, "label_wrong", "file", image->path, "says", device->version.text, "remedy",
              "its devices are known by their digest all the same; build the next one with the version of its name");
}

/* What the check proved of the update before it. */
static void log_verdict(const struct visit *visit, const struct device *device, const struct outcome_verdict *verdict)
{
    struct log_line line;
    char mac[MAC_TEXT_SIZE];
    bool fs = visit->check.device.mode == DEVICE_MODE_FS;
    if (verdict->outcome == OUTCOME_NONE ||
        !device_quota_takes_outcome(&visit->api->quota, &device->mac, clock_moment(visit->api->sources.loop).ms)) {
        return;
    }
    log_begin(&line, outcome_is_failure(verdict->outcome) || verdict->wrong_label ? LOG_WARN : LOG_INFO, "outcome");
    mac_print(&device->mac, mac);
    log_text(&line, "device", mac);
    log_slice(&line, "type", visit->check.type);
    log_text(&line, "outcome", outcome_word(verdict->outcome));
    log_text(&line, "of", words_text(visit->api->fleet->words, device_sent(device, fs)->version));
    if (verdict->detail[0] != '\0') {
        log_text(&line, "why", verdict->detail);
    }
    log_end(&line);
}

/* Whether it gets what the rollout that means it gives: a pin or an assignment to the same build is no other word. */
static bool is_of_rollout(const struct check *check)
{
    const struct rollout *rollout = check->direction.rollout;
    if (rollout == NULL && (check->direction.policy.pinned || check->direction.policy.assigned)) {
        rollout = rollouts_for(check->sources->fleet->rollouts, &check->device.mac, check->type,
                               check->device.mode == DEVICE_MODE_FS, false);
    }
    const struct build *build = check->decision.build;
    for (size_t i = 0; rollout != NULL && build != NULL && i < rollout->order.target.image_count; i++) {
        if (memcmp(rollout->order.target.md5[i], build->facts.md5, 16) == 0) {
            return true;
        }
    }
    return false;
}

/* Whether the image that it was last sent is still there to be recognised. */
static bool is_sent_known(const struct check *check)
{
    uint8_t mode;
    const struct fleet *fleet = check->sources->fleet;
    const struct device *device = devices_find(fleet->devices, &check->device.mac);
    const struct device_transfer *sent =
        device != NULL ? device_sent(device, check->device.mode == DEVICE_MODE_FS) : NULL;
    if (sent == NULL || sent->outcome != OUTCOME_OPEN) {
        return false;
    }
    if (check->slot != 0) {
        struct image *slots[2];
        enum reason missing;
        return catalog_slots(check->sources->catalog, check->type, words_text(fleet->words, sent->version), slots,
                             &missing);
    }
    return catalog_find_md5(check->sources->catalog, sent->md5, check->type, &mode) != NULL;
}

/* A device that says who it is was here: what it runs is a fact, whatever it is answered. */
void device_checked(struct visit *visit)
{
    struct device_api *api = visit->api;
    const struct check *check = &visit->check;
    const struct device_request *device = &check->device;
    struct moment now = clock_moment(api->sources.loop);
    struct outcome_verdict verdict;
    warn_of_wrong_label(visit);
    if (!device->has_mac || device->client == CLIENT_PLAIN) {
        return;
    }
    used_addresses_hear(&api->used, visit->stream, now.ms);
    unsigned asks = device_quota_asked(&api->quota, &device->mac, now.ms);
    if (asks != 0) {
        device_log_busy(visit, asks);
    }
    bool is_place = check->decision.reason != REASON_UNKNOWN_TYPE && check->decision.reason != REASON_UNKNOWN_FILE;
    if (check->type.len == 0 || !is_place) { /* else whoever invents addresses fills the table of types */
        return;
    }
    bool only_asks = visit->only_asks || visit->request->head_only || device->mode == DEVICE_MODE_VERSION;
    bool is_for_no_slot = check->slot != 0 && check->decision.build == NULL; /* of a type that has sketches alone */
    struct checkin checkin = {
        .request = device,
        .type = check->type,
        .reason = check->decision.reason,
        .detail = check->decision.detail,
        .serves = decision_serves(&check->decision),
        .is_aside = only_asks || (check->by_name && !is_of_rollout(check)) || is_for_no_slot,
        .of_rollout = is_of_rollout(check),
        .running_md5 = check->running != NULL ? check->running->build.facts.run_md5[0] : NULL,
        .sent_is_known = is_sent_known(check),
        .flash_mode = check->input.running_flash_mode,
        .chip = check->running != NULL ? check->running->build.facts.chip : CHIP_UNKNOWN,
        .via_proxy = check->via_proxy,
    };
    memcpy(checkin.address, check->address, sizeof checkin.address);
    const struct device *seen = fleet_checked_in(api->fleet, &checkin, &now, &verdict);
    if (seen != NULL) {
        log_verdict(visit, seen, &verdict);
    }
}

void device_answered(struct device_api *api, enum reason reason)
{
    metrics_count(api->metrics, METRIC_CHECKS, reason);
}

/* --- transfers ---------------------------------------------------------------------------------------------------- */

static struct sending sending_of(const struct delivery *delivery)
{
    return (struct sending){ .mac = delivery->has_mac && delivery->updater ? &delivery->key.mac : NULL,
                             .fs = delivery->fs,
                             .full = delivery->full,
                             .file_md5 = delivery->file_md5,
                             .run_md5 = delivery->run_md5,
                             .asked_by = delivery->says_digest ? delivery->asked_by : NULL,
                             .version = delivery->to,
                             .served_max = delivery->served_max };
}

void device_transfer_began(struct device_api *api, const struct delivery *delivery)
{
    struct sending sending = sending_of(delivery);
    struct moment now = clock_moment(api->sources.loop);
    fleet_sending_begins(api->fleet, &sending, &now);
}

static void count_transfer(struct metrics *metrics, const struct delivery_outcome *outcome)
{
    enum metric_transfer result = !outcome->begun  ? METRIC_TRANSFER_NOT_LOADED
                                  : outcome->whole ? METRIC_TRANSFER_WHOLE
                                                   : METRIC_TRANSFER_CUT;
    metrics_count(metrics, METRIC_TRANSFERS, result);
    metrics->counters[METRIC_COUNT_IMAGE_BYTES] += outcome->bytes;
    if (outcome->whole) {
        metrics_observe(metrics, METRIC_HISTOGRAM_TRANSFER_SECONDS, (double)outcome->ms / 1000.0);
    }
}

void device_transfer_ended(struct device_api *api, const struct delivery *delivery,
                           const struct delivery_outcome *outcome)
{
    struct sending sending = sending_of(delivery);
    struct sending_end end = {
        .whole = outcome->whole, .bytes = outcome->bytes, .of = outcome->wanted, .ms = outcome->ms, .why = outcome->why
    };
    struct moment now = clock_moment(api->sources.loop);
    count_transfer(api->metrics, outcome);
    if (outcome->begun) {
        fleet_sending_ended(api->fleet, &sending, &end, &now);
    }
}
