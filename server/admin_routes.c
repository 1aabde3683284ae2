/* Which address is answered by whom, for whom, and what it is called in the audit log: one table, which
 * docs/openapi.json repeats and a test compares. */
#include "server/admin_parts.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define JSON_BODY_MAX   (64u << 10)
#define ORDER_BODY_MAX  (256u << 10) /* 10,000 MACs */
#define UPLOAD_BODY_MAX IMAGE_BYTES_MAX

static const struct admin_route routes[] = {
    { "GET", "/api/v1/status", admin_get_status, 0, NULL, ROLE_READ, NULL, false, false },
    { "GET", "/api/v1/explain", admin_get_explain, 0, NULL, ROLE_READ, NULL, false, true },
    { "GET", "/api/v1/firmware", admin_get_firmware, 0, NULL, ROLE_READ, NULL, false, true },
    { "POST", "/api/v1/firmware", admin_add_firmware, UPLOAD_BODY_MAX, NULL, ROLE_ADMIN, "firmware-add", false, true },
    { "GET", "/api/v1/firmware/rejected", admin_get_rejected, 0, NULL, ROLE_READ, NULL, false, false },
    { "DELETE", "/api/v1/firmware/", admin_remove_firmware, 0, NULL, ROLE_ADMIN, "firmware-remove", false, true },
    { "GET", "/api/v1/rollouts", admin_get_rollouts, 0, NULL, ROLE_READ, NULL, false, false },
    { "POST", "/api/v1/rollouts", admin_begin_rollout, ORDER_BODY_MAX, NULL, ROLE_OPERATE, "rollout-begin", true,
      false },
    { "GET", "/api/v1/rollouts/", admin_get_rollout, 0, NULL, ROLE_READ, NULL, false, true },
    { "POST", "/api/v1/rollouts/", admin_pause_rollout, JSON_BODY_MAX, "/pause", ROLE_OPERATE, "rollout-pause", true,
      false },
    { "POST", "/api/v1/rollouts/", admin_resume_rollout, JSON_BODY_MAX, "/resume", ROLE_OPERATE, "rollout-resume", true,
      false },
    { "POST", "/api/v1/rollouts/", admin_abort_rollout, JSON_BODY_MAX, "/abort", ROLE_OPERATE, "rollout-abort", true,
      false },
    { "GET", "/api/v1/devices", admin_get_devices, 0, NULL, ROLE_READ, NULL, false, true },
    { "GET", "/api/v1/devices/", admin_get_device, 0, NULL, ROLE_READ, NULL, false, false },
    { "PATCH", "/api/v1/devices/", admin_change_device, JSON_BODY_MAX, NULL, ROLE_OPERATE, "device-change", true,
      false },
    { "DELETE", "/api/v1/devices/", admin_forget_device, 0, NULL, ROLE_OPERATE, "device-forget", false, false },
    { "POST", "/api/v1/devices/", admin_retry_device, JSON_BODY_MAX, "/retry", ROLE_OPERATE, "device-retry", true,
      false },
    { "GET", "/api/v1/groups", admin_get_groups, 0, NULL, ROLE_READ, NULL, false, true },
    { "GET", "/api/v1/tokens", admin_get_tokens, 0, NULL, ROLE_ADMIN, NULL, false, false },
    { "POST", "/api/v1/tokens", admin_make_token, JSON_BODY_MAX, NULL, ROLE_ADMIN, "token-new", true, false },
    { "DELETE", "/api/v1/tokens/", admin_remove_token, 0, NULL, ROLE_ADMIN, "token-revoke", false, false },
    { "GET", "/api/v1/audit", admin_get_audit, 0, NULL, ROLE_ADMIN, NULL, false, true },
    { "GET", "/metrics", admin_get_metrics, 0, NULL, ROLE_READ, NULL, false, false },
};

#define ROUTE_COUNT (sizeof routes / sizeof routes[0])

static bool matches(const struct admin_route *route, struct slice path)
{
    size_t n = strlen(route->path), tail = route->tail != NULL ? strlen(route->tail) : 0;
    return route->path[n - 1] == '/' ? slice_starts_with(path, route->path) && path.len > n + tail &&
                                           (tail == 0 || slice_ends_with(path, route->tail))
                                     : slice_is(path, route->path);
}

/* Which methods an address takes, in the order of the table: the answer's text, so it must outlive this call; the
 * loop's. */
static const char *allowed(struct slice path)
{
    static char allow[64];
    size_t used = 0;
    allow[0] = '\0';
    for (size_t i = 0; i < ROUTE_COUNT; i++) {
        if (matches(&routes[i], path)) {
            used += (size_t)snprintf(allow + used, sizeof allow - used, "%s%s", used > 0 ? ", " : "", routes[i].method);
            assert(used < sizeof allow);
        }
    }
    return allow;
}

const struct admin_route *admin_find_route(struct admin_call *call)
{
    const struct http_request *request = call->request;
    struct slice method = request->head_only ? slice_of("GET") : request->method;
    for (size_t i = 0; i < ROUTE_COUNT; i++) {
        if (matches(&routes[i], request->path) && slice_is(method, routes[i].method)) {
            return &routes[i];
        }
    }
    const char *allow = allowed(request->path);
    if (allow[0] != '\0') {
        admin_refuse(call->answer, 405, "method-not-allowed", "docs/openapi.json lists what each address takes",
                     "this address takes %s", allow);
        call->answer->allow = allow;
    } else {
        admin_refuse(call->answer, 404, "not-found", "docs/openapi.json lists what there is", "no such address");
    }
    return NULL;
}

struct slice admin_route_rest(const struct admin_route *route, struct slice path)
{
    size_t n = strlen(route->path), tail = route->tail != NULL ? strlen(route->tail) : 0;
    return (struct slice){ path.at + n, path.len - n - tail };
}
