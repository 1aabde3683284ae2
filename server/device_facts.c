/* What check-ins and transfers prove, and who hears of it: the loop guard, the devices seen, the rollouts, the metrics,
 * the addresses in use. The one place where they do: whoever is to follow the fleet, or to remember it, is told here.
 *
 * What makes it hard: what a device says of what it runs is a fact whatever it is answered, while a transfer proves
 * nothing but that its bytes arrived. None of those told may wait.
 */
#include "server/device_parts.h"

#include "base/log.h"

#include <stdio.h>

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

static bool is_installed(const struct check *check)
{
    return check->decision.reason == REASON_SAME_DIGEST || check->decision.reason == REASON_UP_TO_DATE;
}

/* A device that says who it is was here: what it runs is a fact, whatever it is answered. */
void device_checked(struct visit *visit)
{
    struct device_api *api = visit->api;
    const struct check *check = &visit->check;
    const struct device_request *device = &check->device;
    uint64_t now_ms = uv_now(api->sources.loop);
    warn_of_wrong_label(visit);
    if (!device->has_mac || device->client == CLIENT_PLAIN) {
        return;
    }
    if (is_installed(check)) {
        struct loop_guard_key key = check_guard_key(check);
        loop_guard_forget(api->sources.guard, &key);
    }
    const uint8_t *md5 = device->has_md5 ? device->sketch_md5 : NULL;
    char refused[sizeof check->decision.detail + 40];
    snprintf(refused, sizeof refused, "%s%s%s", reason_word(check->decision.reason),
             check->decision.detail[0] != '\0' ? ": " : "", check->decision.detail);
    struct rollout_sighting sighting = {
        .mac = device->mac,
        .type = check->type,
        .fs = device->mode == DEVICE_MODE_FS,
        .md5 = md5,
        .up_to_date = is_installed(check),
        .offered_md5 = check->decision.build != NULL ? check->decision.build->facts.md5 : NULL,
        .refused = decision_serves(&check->decision) || is_installed(check) ? NULL : refused,
    };
    if (check->type.len > 0 && check->decision.reason != REASON_UNKNOWN_TYPE) {
        struct device *seen = fleet_saw(api->fleet, &device->mac, check->type, md5, now_ms);
        if (seen != NULL) {
            device_learn(seen, device);
        }
    }
    rollouts_saw(api->rollouts, &sighting, now_ms);
    used_addresses_hear(&api->used, visit->stream, now_ms);
}

void device_answered(struct device_api *api, enum reason reason)
{
    metrics_count(api->metrics, METRIC_CHECKS, reason);
}

/* --- transfers ---------------------------------------------------------------------------------------------------- */

void device_transfer_began(struct device_api *api, const struct delivery *delivery)
{
    rollouts_transfer_begins(api->rollouts, delivery->has_mac ? &delivery->key.mac : NULL, delivery->file_md5,
                             uv_now(api->sources.loop));
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
    uint64_t now_ms = uv_now(api->sources.loop);
    count_transfer(api->metrics, outcome);
    if (!outcome->begun) {
        return;
    }
    rollouts_transfer_ended(api->rollouts, delivery->has_mac ? &delivery->key.mac : NULL, delivery->file_md5,
                            outcome->whole, outcome->bytes, now_ms);
    if (outcome->whole && delivery->full && delivery->has_mac) {
        loop_guard_sent(api->sources.guard, &delivery->key, delivery->run_md5, delivery->served_max, now_ms);
    }
}
