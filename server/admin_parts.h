/* What the rooms of the admin API share; nobody else's. */
#ifndef SERVER_ADMIN_PARTS_H
#define SERVER_ADMIN_PARTS_H

#include "server/admin_api.h"

#include <jansson.h>

/* Who asks. */
struct admin_who {
    enum role role;
    char token[TOKEN_NAME_MAX + 1]; /* whose name; "" = over the Unix socket */
    bool has_ids;                   /* there: of the process that opened it */
    uid_t uid;
    gid_t gid;
    struct client_address address; /* over TCP; zeros else */
    uint64_t hold_ms;              /* of who was refused: for how long to hold the answer */
};

/* One request inside. */
struct admin_call {
    struct admin_api *api;
    struct admin_who who;
    const struct http_request *request;
    struct slice rest; /* of the path, behind the route's */
    struct http_answer *answer;
    bool only_asks; /* it turned out to change nothing, though its route may */
};

/* A row of the table. */
struct admin_route {
    const char *method;
    const char *path; /* one that ends in `/` takes what is below it … */
    void (*handle)(struct admin_call *call);
    size_t body_max;  /* 0 = takes none */
    const char *tail; /* … and ends so; NULL = however it ends */
    enum role role;   /* the least that may */
    const char *act;  /* what it changes, as the audit log calls it; NULL = nothing */
    bool tells;       /* the body may stand there: no secret is in it */
    bool asked;       /* its room reads the query; else there is to be none */
};

/* The route of a request, or NULL with the refusal: no such address, or another method's. */
const struct admin_route *admin_find_route(struct admin_call *call);
struct slice admin_route_rest(const struct admin_route *route, struct slice path); /* what stands at its `/` */

/* Finds out who asks; false with the refusal, which admin_hold_refusal may delay when all else is done with it. */
bool admin_identify(struct admin_call *call, const struct admin_door *door, struct stream *stream);
void admin_hold_refusal(struct admin_call *call);

/* For the audit log: an act, answered or to be answered later; and what a token's holder may not. */
void admin_note_act(struct admin_call *call, const struct admin_route *route);
void admin_act_answered(struct admin_api *api, const struct http_later *later, const struct http_answer *answer);
void admin_note_refusal(struct admin_call *call, const struct admin_route *route); /* NULL = to come in */

/* Answers with JSON, whose reference is taken over. */
void admin_answer(struct http_answer *answer, unsigned status, json_t *json);

/* {"error":{"code","message","remedy"}}. Parts of the message that came from outside go through admin_show. */
void admin_refuse(struct http_answer *answer, unsigned status, const char *code, const char *remedy, const char *format,
                  ...) __attribute__((format(printf, 5, 6)));

/* 422: what the image check said; "fault" has its word. */
void admin_refuse_image(struct http_answer *answer, const struct image_verdict *verdict);

/* The answer to a call that set answer->later. */
void admin_answer_later(struct admin_api *api, struct http_later *later, struct http_answer *answer);

/* JSON text of foreign bytes: what is no UTF-8, or a control character, becomes escaped ASCII. */
json_t *admin_text(const char *text);

/* A sentence of ours: the same, but its own quotes stay as they are. */
json_t *admin_sentence(const char *text);

/* A foreign name as a message repeats it: escaped where it is not clean or has quotes of its own, cut where it is long.
 * admin_show(name).text */
struct admin_shown {
    char text[HTTP_PARAMETER_MAX + 1];
};
struct admin_shown admin_show(const char *name);

json_t *admin_hex(const uint8_t *bytes, size_t n);
json_t *admin_time(time_t seconds); /* RFC 3339, UTC */

/* A table of the parameters or members that a call takes. */
enum admin_kind { ADMIN_TEXT, ADMIN_NUMBER, ADMIN_YES_NO };
struct admin_parameter {
    const char *name;
    enum admin_kind kind;
    void *to;     /* char[HTTP_PARAMETER_MAX + 1], uint64_t or bool */
    uint64_t max; /* of a number */
    bool *given;  /* NULL = does not matter */
};

/* Reads the query. Returns false with the refusal: an unknown parameter, one that cannot be read, one twice. */
bool admin_read_query(struct admin_call *call, const struct admin_parameter *parameters, size_t count);

/* Reads the body as one JSON object whose members are all in `members`. Returns NULL with the refusal; else the
 * caller's. */
json_t *admin_read_body(struct admin_call *call, const char *const *members, size_t count);

/* Rooms. */
void admin_get_status(struct admin_call *call);
void admin_get_metrics(struct admin_call *call);
void admin_get_explain(struct admin_call *call);
void admin_get_firmware(struct admin_call *call);
void admin_get_rejected(struct admin_call *call);
void admin_add_firmware(struct admin_call *call);
void admin_remove_firmware(struct admin_call *call);
void admin_get_rollouts(struct admin_call *call);
void admin_get_rollout(struct admin_call *call);
void admin_begin_rollout(struct admin_call *call);
void admin_pause_rollout(struct admin_call *call);
void admin_resume_rollout(struct admin_call *call);
void admin_abort_rollout(struct admin_call *call);
void admin_get_devices(struct admin_call *call);
void admin_get_device(struct admin_call *call);
void admin_change_device(struct admin_call *call);
void admin_forget_device(struct admin_call *call);
void admin_retry_device(struct admin_call *call);
void admin_get_groups(struct admin_call *call);
void admin_get_audit(struct admin_call *call);
void admin_get_tokens(struct admin_call *call);
void admin_make_token(struct admin_call *call);
void admin_remove_token(struct admin_call *call);

/* What an image is, as a word of the API, by enum filename_role. */
extern const char *const admin_kinds[];

json_t *admin_image_json(const struct catalog *catalog, const struct image *image);

json_t *admin_target_json(const struct rollout_target *target);
json_t *admin_rollout_json(struct admin_api *api, const struct rollout *rollout);
/* NULL with the refusal. */
struct rollout *admin_find_rollout(struct admin_call *call, struct slice id);
json_t *admin_device_json(const struct admin_api *api, const struct mac *mac); /* seen, or not */

/* Where a rollout keeps the type on an older version than there is: which, which rollout, and what ends it; else "". */
struct check;
void admin_kept_text(const struct check *check, char *text, size_t size);

/* Whether the rollout is done and keeps its type on an older version than there is. */
struct admin_keeping {
    const struct rollout *rollout;
    const struct build *on, *newest; /* on: NULL = its file is gone */
    size_t devices;                  /* of those that it names, at most so many */
    bool counted;                    /* exactly so many */
};
bool admin_keeps(const struct admin_api *api, const struct rollout *rollout, struct admin_keeping *keeping);
/* Likewise, some of those that it meant, which is a part of the type; `on` is not found. Of devices named, `*asks` are
 * asked about at most, and taken off it; of a group or a share nobody is. */
bool admin_keeps_some(const struct admin_api *api, const struct rollout *rollout, size_t *asks,
                      struct admin_keeping *keeping);

json_t *admin_warnings_json(const struct admin_api *api, const struct public_url *url);
json_t *admin_notes_json(const struct admin_api *api);

/* The device named by the rest of the path; false with the refusal: it is no MAC, or nobody ever heard of it. */
bool admin_read_mac(struct admin_call *call, struct mac *mac);
bool admin_knows_device(struct admin_call *call, const struct mac *mac);

#define ADMIN_STORE_WAIT_MS 5000 /* for what is to be durable before the operator is told */

/* Whether nothing can be promised now; then it is refused. */
bool admin_store_is_failing(struct admin_call *call);

json_t *admin_broker_json(const struct admin_api *api); /* {"state","error"} */
json_t *admin_store_json(const struct admin_api *api);  /* {"state","why"} */

#endif
