/* What the rooms of the device side share; nobody else's. */
#ifndef SERVER_DEVICE_PARTS_H
#define SERVER_DEVICE_PARTS_H

#include "server/device_api.h"

/* A request under way: the check, and everything else that its answer and its log line need. */
struct visit {
    struct check check;
    struct device_api *api;
    const struct http_request *request;
    struct stream *stream; /* NULL in tests */
    char peer[64];         /* "" until it is asked for */
};

/* An image on its way to a device, from the answer until the sending has ended. */
struct delivery {
    bool has_mac, fs, updater, full; /* full: not a part only */
    struct loop_guard_key key;
    uint8_t run_md5[16];
    uint8_t file_md5[16];
    unsigned served_max;
    enum reason reason;
    char type[TYPE_TEXT_MAX + 1];
    char from[VERSION_TEXT_MAX + 1]; /* escaped */
    char to[VERSION_TEXT_MAX + 1];
    char peer[64];
};

/* --- device_facts: what was seen, and who hears of it ------------------------------------------------------------- */

/* A check was decided; its answer is not given yet. */
void device_checked(struct visit *visit);

/* It was answered so. */
void device_answered(struct device_api *api, enum reason reason);

/* The bytes of a delivery begin to go out; its sending ended. */
void device_transfer_began(struct device_api *api, const struct delivery *delivery);
void device_transfer_ended(struct device_api *api, const struct delivery *delivery,
                           const struct delivery_outcome *outcome);

/* --- device_log: the line of each event --------------------------------------------------------------------------- */

const char *visit_peer(struct visit *visit);

void device_log_check(struct visit *visit, unsigned status);
void device_log_unavailable(const struct delivery *delivery, const struct image *image, enum status status,
                            unsigned answered);
void device_log_ended(const struct delivery *delivery, const struct delivery_outcome *outcome);

/* --- device_delivery ---------------------------------------------------------------------------------------------- */

/* Of the build that was decided. The connection hands it back to device_api_delivered. */
struct delivery *delivery_new(struct visit *visit, unsigned status);

#endif
