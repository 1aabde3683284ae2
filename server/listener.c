/* libuv accepts one connection ahead of us and stops polling the socket until it is taken: not taking it is how we
 * pause. We never accept into the last descriptors (app.c keeps some aside); should the system be out
 * of them all the same, libuv lets go of a spare one of its own to refuse the connection. */
#include "server/listener.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <string.h>

#define BACKLOG 4096

static bool parse_address(const char *text, struct sockaddr_storage *address)
{
    char host[128];
    const char *colon = strrchr(text, ':');
    uint64_t port;
    if (colon == NULL || !number_parse(slice_of(colon + 1), 65535, &port) ||
        !slice_copy((struct slice){ text, (size_t)(colon - text) }, host, sizeof host)) {
        return false;
    }
    size_t n = strlen(host);
    if (n > 2 && host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = '\0';
        return uv_ip6_addr(host + 1, (int)port, (struct sockaddr_in6 *)address) == 0;
    }
    return uv_ip4_addr(host, (int)port, (struct sockaddr_in *)address) == 0;
}

static enum status explain(int error, const char *address, char *message, size_t size)
{
    static const struct {
        int error;
        enum status status;
        const char *remedy;
    } rows[] = {
        { UV_EADDRINUSE, STATUS_BUSY,
          "another program has this port: stop it, or choose another, as in --listen 0.0.0.0:8081" },
        { UV_EACCES, STATUS_DENIED, "ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher port" },
        { UV_EADDRNOTAVAIL, STATUS_NOT_FOUND, "this machine has no such address: use 0.0.0.0 for all of its own" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].error == error) {
            snprintf(message, size, "--listen %s: %s: %s", address, uv_strerror(error), rows[i].remedy);
            return rows[i].status;
        }
    }
    snprintf(message, size, "--listen %s: %s", address, uv_strerror(error));
    return STATUS_IO;
}

enum status listener_bind(struct listener *listener, uv_loop_t *loop, struct http_server *server, const char *address,
                          char *message, size_t size)
{
    struct sockaddr_storage socket_address;
    memset(listener, 0, sizeof *listener);
    listener->server = server;
    uv_tcp_init(loop, &listener->tcp);
    listener->tcp.data = listener;
    if (!parse_address(address, &socket_address)) {
        snprintf(message, size, "--listen %s: not an address and a port: use 0.0.0.0:8080 or [::]:8080", address);
        return STATUS_INVALID;
    }
    int error = uv_tcp_bind(&listener->tcp, (struct sockaddr *)&socket_address, 0);
    if (error != 0) {
        return explain(error, address, message, size);
    }
    stream_tcp_prepare_listener(&listener->tcp);
    /* libuv reports "in use" only here or at listen: ask at once, so that the error comes before the first scan. */
    struct sockaddr_storage bound;
    int length = sizeof bound;
    error = uv_tcp_getsockname(&listener->tcp, (struct sockaddr *)&bound, &length);
    return error != 0 ? explain(error, address, message, size) : STATUS_OK;
}

static void accept_one(struct listener *listener)
{
    struct http_server *server = listener->server;
    listener->waiting = http_server_is_full(server) || server->draining;
    if (listener->waiting) {
        return;
    }
    listener->waiting = !http_server_accept(server, (uv_stream_t *)&listener->tcp);
}

static void on_connection(uv_stream_t *handle, int error)
{
    struct listener *listener = handle->data;
    if (error == 0) {
        accept_one(listener);
    } else {
        LOG_EVENT(LOG_WARN, "accept_failed", "why", uv_strerror(error), "remedy",
                  "raise the descriptor limit (ulimit -n) or lower --connections-max");
    }
}

enum status listener_start(struct listener *listener, char *address, size_t size)
{
    struct sockaddr_storage bound;
    int length = sizeof bound;
    char host[INET6_ADDRSTRLEN];
    int error = uv_listen((uv_stream_t *)&listener->tcp, BACKLOG, on_connection);
    if (error == 0) {
        error = uv_tcp_getsockname(&listener->tcp, (struct sockaddr *)&bound, &length);
    }
    if (error != 0) {
        snprintf(address, size, "%s", uv_strerror(error));
        return error == UV_EADDRINUSE ? STATUS_BUSY : STATUS_IO;
    }
    if (bound.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&bound;
        uv_ip6_name(in6, host, sizeof host);
        snprintf(address, size, "[%s]:%u", host, (unsigned)ntohs(in6->sin6_port));
    } else {
        const struct sockaddr_in *in4 = (const struct sockaddr_in *)&bound;
        uv_ip4_name(in4, host, sizeof host);
        snprintf(address, size, "%s:%u", host, (unsigned)ntohs(in4->sin_port));
    }
    return STATUS_OK;
}

void listener_resume(struct listener *listener)
{
    if (listener->waiting && !uv_is_closing((uv_handle_t *)&listener->tcp)) {
        accept_one(listener);
    }
}

static void on_closed(uv_handle_t *handle)
{
    struct listener *listener = handle->data;
    listener->on_closed(listener);
}

void listener_close(struct listener *listener, void (*on_listener_closed)(struct listener *listener))
{
    listener->on_closed = on_listener_closed;
    uv_close((uv_handle_t *)&listener->tcp, on_closed);
}
