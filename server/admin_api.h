/* The operator's side: HTTP/JSON under /api/v1 and /metrics, over a Unix socket or, with a bearer token, over TCP.
 * docs/openapi.json describes it; a test walks that file against the running server.
 *
 * admin_api.c is the door: how large a body, and the form of every refusal; admin_routes.c which room, and who may
 * enter; admin_who.c who asks. The rooms are admin_status.c, admin_explain.c, admin_images.c, admin_firmware.c,
 * admin_kept.c, admin_orders.c, admin_rollouts.c, admin_devices.c, admin_policies.c, admin_tokens.c, admin_audit.c,
 * admin_warnings.c.
 */
#ifndef SERVER_ADMIN_API_H
#define SERVER_ADMIN_API_H

#include "fleet/fleet.h"
#include "mqtt/inbox.h"
#include "mqtt/publisher.h"
#include "mqtt/session.h"
#include "repo/blob.h"
#include "repo/catalog.h"
#include "server/attempts.h"
#include "server/audit.h"
#include "server/broker_url.h"
#include "server/config.h"
#include "server/device_api.h"
#include "server/held_answers.h"
#include "server/http_server.h"
#include "server/metrics.h"
#include "server/stream_tls.h"
#include "server/tokens.h"
#include "server/trigger.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <uv.h>

/* What the operator can see and do; the app owns all of it. */
struct admin_api {
    uv_loop_t *loop;
    const struct config *config;
    struct catalog *catalog; /* the newest */
    struct device_api *device_api;
    struct fleet *fleet;
    struct store_queue *store; /* NULL = nothing is written down */
    unsigned max_failures;     /* percent, where an order names none */
    struct trigger *trigger;
    struct publisher *publisher; /* these three: NULL = no broker is configured */
    struct session *session;
    struct inbox *inbox;
    struct broker_url broker;
    struct http_server *device_http;
    const struct tls_room *tls; /* NULL = no TLS */
    struct blob_store *blobs;
    struct metrics *metrics;
    struct tokens *tokens;
    struct attempts *failed_logins; /* NULL, and those held NULL: nobody is slowed */
    struct held_answers *held;
    struct audit *audit; /* NULL = nothing is noted */
    /* admin_acts': acts to be answered later, and what tokens were refused within a minute */
    struct admin_act *acts;
    struct {
        uint64_t since_ms, unsaid;
        unsigned count;
    } refusals;
    struct signature_keys *signing_keys; /* the app's: NULL = no signature is asked for */
    size_t listener_count;
    char listeners[CONFIG_LISTEN_MAX][160]; /* "http 127.0.0.1:8080" */
    time_t started_s;
    uint64_t started_ms;
    double loop_busy; /* of the last seconds */
    uint64_t scans;
    void (*rescan)(void *owner);
    void (*find_public_url)(void *owner, struct public_url *url);
    void *owner;
    /* admin_firmware's: changes of the repository under way */
    struct firmware_change *changes;
    bool closing;
    /* admin_rollouts': bytes of transfers under way, looked at now and then */
    uint64_t progress_ms;
    struct {
        char id[ANNOUNCE_ID_SIZE];
        uint64_t bytes;
    } progress[ROLLOUTS_MAX];
};

/* Where somebody comes in; the owner of an http_server's handlers. */
struct admin_door {
    struct admin_api *api;
    bool needs_token; /* TCP; the Unix socket's mode is its key */
};

extern const struct http_handlers admin_handlers; /* their owner is a struct admin_door */

/* Once, when the loop is about to run: removes what uploads left behind that were killed. */
void admin_api_start(struct admin_api *api);

/* A catalog took the place of the one before: those who wait for their image in it are answered. */
void admin_api_catalog_changed(struct admin_api *api);

/* Once a second: who has waited too long is answered. */
void admin_api_tick(struct admin_api *api);

/* No more changes begin; those under way end by themselves. */
void admin_api_close(struct admin_api *api);

#endif
