/* Which address is answered by whom: a table. */
#ifndef SERVER_ROUTER_H
#define SERVER_ROUTER_H

#include "server/device_api.h"

void router_answer(struct device_api *api, const struct http_request *request, struct stream *stream,
                   struct http_answer *answer);

#endif
