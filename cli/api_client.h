/* The admin API as the command line uses it: JSON out, JSON in, over the Unix socket or a URL.
 *
 * What makes it hard is saying what went wrong: no socket, nobody behind it, no right to it, a server that hangs, some
 * other server; each has its own remedy.
 */
#ifndef CLI_API_CLIENT_H
#define CLI_API_CLIENT_H

#include "cli/server_place.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum api_result {
    API_DONE,
    API_REFUSED, /* the server answered with an error object: its words are in the problem */
    API_GONE,    /* no server; the problem says which place was tried */
    API_STOPPED, /* the stop function asked for it */
};

struct api_problem {
    long status; /* HTTP; 0 = no answer */
    char code[64];
    char message[2048]; /* as the server wrote them: to be escaped where shown */
    char remedy[2048];
    json_t *document; /* the server's whole answer; NULL where there is none */
};

typedef void (*api_progress_fn)(void *owner, uint64_t sent, uint64_t total);
typedef bool (*api_stop_fn)(void *owner); /* asked about once a second while a call waits; true ends it */

struct api_client;

/* `place` is copied. */
struct api_client *api_client_new(const struct server_place *place);
void api_client_free(struct api_client *api);

/* Of the last call that was not API_DONE; borrowed. */
const struct api_problem *api_problem(const struct api_client *api);

/* How long a call may take in all; 30 s without it. */
void api_set_patience(struct api_client *api, long ms);
void api_set_stop(struct api_client *api, api_stop_fn stop, void *owner);

/* --- a path with names in it --- */

struct api_path {
    char text[8192];
    size_t used;
    bool cut; /* did not fit: the call will be refused */
};

void api_path_begin(struct api_path *path, const char *start); /* "/api/v1/firmware" */
void api_path_name(struct api_path *path, const char *name);   /* "/NAME"; slashes in it stay, all else is encoded */
void api_path_query(struct api_path *path, const char *key, const char *value); /* nothing where value is NULL */

/* --- calls; *reply is a new reference on API_DONE, untouched else --- */

enum api_result api_call(struct api_client *api, const char *method, const struct api_path *path, const json_t *body,
                         json_t **reply);

/* POSTs bytes; `progress` may be NULL. Has no time limit as long as something moves. */
enum api_result api_upload(struct api_client *api, const struct api_path *path, const void *bytes, size_t n,
                           api_progress_fn progress, void *owner, json_t **reply);

/* GETs a list page by page into one document: the first page's, with the array `key` made whole. */
enum api_result api_get_all(struct api_client *api, const struct api_path *path, const char *key, json_t **reply);

/* --- fields of an answer; absent or of another kind counts as "", 0, false --- */

const char *field_text(const json_t *object, const char *key);
uint64_t field_number(const json_t *object, const char *key);
double field_real(const json_t *object, const char *key);
bool field_true(const json_t *object, const char *key);

#endif
