/* The device side: what is answered to a device that asks. Read this room first.
 *
 * device_api.c has the routes: it reads what the device says, has it decided (server/check) and answers. Its rooms:
 * device_certificate.c looks at who it is, device_facts.c tells those who follow the fleet (its memory, the metrics),
 * device_log.c the log, and device_delivery.c sees an image through to its end. None of them waits.
 */
#ifndef SERVER_DEVICE_API_H
#define SERVER_DEVICE_API_H

#include "base/pool.h"
#include "fleet/fleet.h"
#include "server/check.h"
#include "server/client_address.h"
#include "server/device_quota.h"
#include "server/http_conn.h"
#include "server/http_reply.h"
#include "server/http_request.h"
#include "server/metrics.h"
#include "server/used_addresses.h"

#include <stdint.h>

/* What a MAC in a device's certificate means; the order is that of enum config_tls_mac. */
enum certificate_macs {
    CERTIFICATE_MACS_NAMED,    /* it is good for that device alone */
    CERTIFICATE_MACS_REQUIRED, /* and each must have one */
    CERTIFICATE_MACS_ANY,      /* nothing */
};

struct password_checks;

struct device_api {
    struct check_sources sources;
    enum certificate_macs certificate_macs;
    struct client_networks proxies;      /* those that are believed */
    struct client_networks block, allow; /* where devices are not served, and where alone */
    struct password_checks *passwords;
    /* Who hears of what happens: */
    struct fleet *fleet;
    struct metrics *metrics;
    struct used_addresses used;
    struct pool deliveries;
    struct device_quota quota; /* of the log */
};

/* The rest of *api is the caller's. Closed when the last delivery has come back. */
void device_api_open(struct device_api *api);
void device_api_close(struct device_api *api);

/* Handlers for the router: `rest` is the path behind the route's prefix. */
typedef void (*device_handler_fn)(struct device_api *api, const struct http_request *request, struct slice rest,
                                  struct stream *stream, struct http_answer *answer);

void device_api_update(struct device_api *api, const struct http_request *request, struct slice rest,
                       struct stream *stream, struct http_answer *answer);
void device_api_latest(struct device_api *api, const struct http_request *request, struct slice rest,
                       struct stream *stream, struct http_answer *answer);
void device_api_firmware(struct device_api *api, const struct http_request *request, struct slice rest,
                         struct stream *stream, struct http_answer *answer);
void device_api_native(struct device_api *api, const struct http_request *request, struct slice rest,
                       struct stream *stream, struct http_answer *answer);
void device_api_healthz(struct device_api *api, const struct http_request *request, struct slice rest,
                        struct stream *stream, struct http_answer *answer);

/* `/`: somebody with a browser, who wants to know what this is. */
void device_api_front(struct device_api *api, const struct http_request *request, struct slice rest,
                      struct stream *stream, struct http_answer *answer);

/* The image of an answer cannot be had: an updater hears "not now", others when to come again. Said in the log, too. */
void device_api_unavailable(struct device_api *api, const struct delivery *delivery, const struct image *image,
                            enum status status, struct http_answer *answer);

/* The bytes of a delivery begin to go out. */
void device_api_begun(struct device_api *api, struct delivery *delivery);

/* To which rollout's image a delivery belongs. */
const uint8_t *device_api_delivery_md5(const struct delivery *delivery);

/* The sending of an image ended. Frees the delivery. */
void device_api_delivered(struct device_api *api, struct delivery *delivery, const struct delivery_outcome *outcome);

#endif
