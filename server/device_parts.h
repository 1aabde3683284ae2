/* What the rooms of the device side share; nobody else's. */
#ifndef SERVER_DEVICE_PARTS_H
#define SERVER_DEVICE_PARTS_H

#include "proto/basic_auth.h"
#include "server/device_api.h"
#include "server/host.h"

#define PEER_TEXT_SIZE (2 * HOST_TEXT_SIZE + 16)

/* A request under way: the check, and everything else that its answer and its log line need. */
struct visit {
    struct check check;
    struct device_api *api;
    const struct http_request *request;
    struct stream *stream; /* NULL in tests */
    bool only_asks;        /* for a version */
    bool is_left_out;      /* of the log, having said much */
    bool has_client;
    struct client_address client;       /* where has_client: ask visit_client */
    char peer[PEER_TEXT_SIZE];          /* "" until it is asked for: ask visit_peer */
    char user[BASIC_AUTH_USER_MAX + 1]; /* of a refused password, as the client says; "" = none */
};

/* An image on its way to a device, from the answer until the sending has ended. */
struct delivery {
    bool has_mac, fs, updater, full; /* full: not a part only */
    bool is_left_out;                /* of the log, as its check was */
    struct loop_guard_key key;
    uint8_t run_md5[16];
    uint8_t file_md5[16];
    unsigned served_max;
    bool says_digest;
    uint8_t asked_by[16]; /* fleet_digest */
    enum reason reason;
    char type[TYPE_TEXT_MAX + 1];
    char from[VERSION_TEXT_MAX + 1]; /* escaped */
    char to[VERSION_TEXT_MAX + 1];
    char peer[PEER_TEXT_SIZE];
};

/* For an answer whose text stands already: its reason, and the line in the log. */
void device_tell_reason(struct visit *visit, enum reason reason, struct http_answer *answer);

/* --- device_auth -------------------------------------------------------------------------------------------------- */

/* Whether it may have what was decided, as far as passwords go. `asked` is the type in its address; absent: the file is
 * of no type. Returns false with the answer. */
bool device_admitted(struct visit *visit, struct slice asked, struct http_answer *answer);

/* --- device_facts: what was seen, and who hears of it ------------------------------------------------------------- */

/* Whose address it is, also where a trusted proxy brought it. Found out once, when it is first asked for. */
const struct client_address *visit_client(struct visit *visit);

/* A check was decided; its answer is not given yet. */
void device_checked(struct visit *visit);

/* It was answered so. */
void device_answered(struct device_api *api, enum reason reason);

/* The bytes of a delivery begin to go out; its sending ended. */
void device_transfer_began(struct device_api *api, const struct delivery *delivery);
void device_transfer_ended(struct device_api *api, const struct delivery *delivery,
                           const struct delivery_outcome *outcome);

/* --- device_certificate ------------------------------------------------------------------------------------------- */

/* Whether it may be whom its request names, by the certificate that it shows. Else the decision's detail says why not.
 */
bool device_shows_own_certificate(struct visit *visit);

/* --- device_log: the line of each event --------------------------------------------------------------------------- */

/* "192.0.2.7:49152"; "192.0.2.7 via 10.0.0.2:49152" of one whom a trusted proxy names. */
const char *visit_peer(struct visit *visit);

void device_log_check(struct visit *visit, unsigned status);
void device_log_busy(struct visit *visit, unsigned asks); /* so many within a minute */
void device_log_unavailable(struct device_api *api, const struct delivery *delivery, const struct image *image,
                            enum status status, unsigned answered);
void device_log_ended(struct device_api *api, const struct delivery *delivery, const struct delivery_outcome *outcome);

/* --- device_delivery ---------------------------------------------------------------------------------------------- */

/* Of the build that was decided. The connection hands it back to device_api_delivered. */
struct delivery *delivery_new(struct visit *visit, unsigned status);

#endif
