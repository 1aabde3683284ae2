/* The device side: what is answered to a device that asks. Read this room first.
 *
 * It only asks: what did the device say (proto/device_request), what have we (repo/catalog), what is it to run
 * (fleet/assignment), has it had that often enough (fleet/loop_guard), so what (proto/decision)? None of them waits.
 */
#ifndef SERVER_DEVICE_API_H
#define SERVER_DEVICE_API_H

#include "fleet/assignment.h"
#include "fleet/loop_guard.h"
#include "repo/catalog.h"
#include "server/http_conn.h"
#include "server/http_reply.h"
#include "server/http_request.h"

#include <stdbool.h>
#include <uv.h>

struct device_api {
    const uv_loop_t *loop;         /* for the time */
    const struct catalog *catalog; /* never NULL once requests come */
    const struct assignments *assignments;
    struct loop_guard *guard;
    unsigned loop_guard_max; /* whole transfers of one image to one device before it has to wait */
    bool fs_gzip;            /* compressed file systems are inflated by the sketches in use */
};

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

/* The image of an answer cannot be had: an updater hears "not now", others when to come again. Said in the log, too. */
void device_api_unavailable(const struct delivery *delivery, const struct image *image, enum status status,
                            struct http_answer *answer);

/* The sending of an image ended. Frees the delivery. */
void device_api_delivered(struct device_api *api, struct delivery *delivery, const struct delivery_outcome *outcome);

#endif
