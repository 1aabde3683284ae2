/* An image on its way: made with the answer, begun, not to be had, or ended whole or cut. The connection hands each
 * back exactly once. */
#include "server/device_parts.h"

#include <assert.h>
#include <string.h>

#define KEPT_MAX 1024 /* deliveries whose memory is kept for the next */

void device_api_open(struct device_api *api)
{
    device_quota_init(&api->quota);
    pool_init(&api->deliveries, sizeof(struct delivery), KEPT_MAX);
}

void device_api_close(struct device_api *api)
{
    pool_close(&api->deliveries);
}

struct delivery *delivery_new(struct visit *visit, unsigned status)
{
    const struct build *build = visit->check.decision.build;
    struct delivery *delivery = pool_take(&visit->api->deliveries);
    assert(delivery != NULL && build != NULL);
    delivery->has_mac = visit->check.device.has_mac;
    delivery->fs = visit->check.device.mode == DEVICE_MODE_FS;
    delivery->updater = visit->check.device.client != CLIENT_PLAIN;
    delivery->full = status == 200;
    delivery->key = check_guard_key(&visit->check);
    delivery->served_max = check_served_max(&visit->check);
    const struct image *running = visit->check.running;
    const uint8_t *digest =
        fleet_digest(&visit->check.device, running != NULL ? running->build.facts.run_md5[0] : NULL);
    delivery->says_digest = digest != NULL;
    if (digest != NULL) {
        memcpy(delivery->asked_by, digest, sizeof delivery->asked_by);
    }
    memcpy(delivery->run_md5, check_run_md5(&visit->check, build), 16);
    memcpy(delivery->file_md5, build->facts.md5, 16);
    (void)slice_copy(visit->check.type, delivery->type, sizeof delivery->type);
    text_escape(visit->check.device.label, delivery->from, sizeof delivery->from);
    text_copy(build_name(build), delivery->to, sizeof delivery->to);
    text_copy(visit_peer(visit), delivery->peer, sizeof delivery->peer);
    delivery->reason = visit->check.decision.reason;
    return delivery;
}

void device_api_begun(struct device_api *api, struct delivery *delivery)
{
    device_answered(api, delivery->reason);
    device_transfer_began(api, delivery);
}

const uint8_t *device_api_delivery_md5(const struct delivery *delivery)
{
    return delivery->file_md5;
}

void device_api_unavailable(struct device_api *api, const struct delivery *delivery, const struct image *image,
                            enum status status, struct http_answer *answer)
{
    answer->has_reason = true;
    answer->reason = REASON_NOT_YET;
    device_answered(api, REASON_NOT_YET);
    if (delivery->updater) {
        answer->status = 304;
    } else {
        answer->retry_after_s = 1;
        http_answer_text(answer, 503, "%s: come again\n", reason_word(REASON_NOT_YET));
    }
    device_log_unavailable(api, delivery, image, status, answer->status);
}

void device_api_delivered(struct device_api *api, struct delivery *delivery, const struct delivery_outcome *outcome)
{
    device_transfer_ended(api, delivery, outcome);
    if (outcome->begun) { /* else device_api_unavailable has told */
        device_log_ended(api, delivery, outcome);
    }
    pool_give(&api->deliveries, delivery);
}
