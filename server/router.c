#include "server/router.h"

#include <string.h>

static const struct route {
    const char *path; /* one that ends in `/` takes all below it, but for `/` itself */
    device_handler_fn handle;
} routes[] = {
    { "/update", device_api_update },  { "/update/", device_api_update },
    { "/latest/", device_api_latest }, { "/firmware/", device_api_firmware },
    { "/native/", device_api_native }, { "/healthz", device_api_healthz },
    { "/", device_api_front },
};

static bool matches(const struct route *route, struct slice path)
{
    size_t n = strlen(route->path);
    return n > 1 && route->path[n - 1] == '/' ? slice_starts_with(path, route->path) : slice_is(path, route->path);
}

void router_answer(struct device_api *api, const struct http_request *request, struct stream *stream,
                   struct http_answer *answer)
{
    if (!request->get) {
        answer->allow = "GET, HEAD";
        http_answer_text(answer, 405, "only GET and HEAD are answered here\n");
        return;
    }
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (matches(&routes[i], request->path)) {
            size_t n = strlen(routes[i].path);
            struct slice rest = { request->path.at + n, request->path.len - n };
            routes[i].handle(api, request, rest, stream, answer);
            return;
        }
    }
    http_answer_text(answer, 404,
                     "no such address; there are /update/<type>, /latest/<type>.bin, /firmware/<file>, "
                     "/native/<type>/version and /healthz\n");
}
