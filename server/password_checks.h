/* Whether a device's password is right: at once where it was found right or wrong before, else found out by a worker
 * thread, since each digest takes a long time on purpose.
 *
 * What makes it hard: strangers decide how much there is to do. So one digest is worked out at a time, whoever asks;
 * the number that wait is bounded, and so is the number of each address (server/attempts). A device that was found
 * right costs a keyed digest and a comparison from then on, whatever others do. What is remembered of right credentials
 * is that keyed digest, one a user; of wrong ones a table of fixed size. An unknown user takes as long as a known one.
 */
#ifndef SERVER_PASSWORD_CHECKS_H
#define SERVER_PASSWORD_CHECKS_H

#include "proto/basic_auth.h"
#include "server/client_address.h"
#include "server/device_users.h"
#include "server/http_conn.h"

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define PASSWORD_JOBS_MAX    64   /* different credentials that wait to be worked out */
#define PASSWORD_WAITERS_MAX 1024 /* requests that wait for them */

enum password_result {
    PASSWORD_RIGHT,
    PASSWORD_WRONG,
    PASSWORD_LATER,   /* handle the request again: *later is to be its answer's */
    PASSWORD_NOT_NOW, /* too many wait, or its address has failed too often: *why says which */
};

struct password_checks;

/* NULL: no memory. */
struct password_checks *password_checks_new(uv_loop_t *loop);
void password_checks_free(struct password_checks *checks); /* once the loop has ended */

/* Takes over `users`; NULL = no password is needed. The ones before are freed. */
void password_checks_use(struct password_checks *checks, struct device_users *users);
struct device_users *password_checks_users(const struct password_checks *checks); /* NULL = none needed */

/* Asks for credentials that came from `who`. Where right, *user is whose they are. */
enum password_result password_checks_ask(struct password_checks *checks, const struct basic_auth *auth,
                                         const struct client_address *who, const struct device_user **user,
                                         const char **why, struct http_later **later);

/* Nothing more is worked out: who waits is answered. Not from within a handler. */
void password_checks_stop(struct password_checks *checks);

struct password_counts {
    size_t under_way;    /* 0 or 1 */
    size_t waiting;      /* requests, for that one and for those behind it */
    uint64_t worked_out; /* since the start */
};
struct password_counts password_checks_counts(const struct password_checks *checks);

#endif
