/* libuv accepts one connection ahead of us and stops polling the socket until it is taken: not taking it is how we
 * pause. We never accept into the last descriptors (app.c keeps some aside); should the system be out
 * of them all the same, libuv lets go of a spare one of its own to refuse the connection. */
#include "server/listener.h"

#include "base/file.h"
#include "base/log.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

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

static enum status explain(int error, const char *flag, const char *address, char *message, size_t size)
{
    static const struct {
        int error;
        enum status status;
        const char *remedy;
    } rows[] = {
        { UV_EADDRINUSE, STATUS_BUSY,
          "another program has this port: stop it, or choose another, such as 0.0.0.0:8081" },
        { UV_EACCES, STATUS_DENIED, "ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher port" },
        { UV_EADDRNOTAVAIL, STATUS_NOT_FOUND, "this machine has no such address: use 0.0.0.0 for all of its own" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].error == error) {
            snprintf(message, size, "--%s %s: %s: %s", flag, address, uv_strerror(error), rows[i].remedy);
            return rows[i].status;
        }
    }
    snprintf(message, size, "--%s %s: %s", flag, address, uv_strerror(error));
    return STATUS_IO;
}

static void listener_init(struct listener *listener, struct http_server *server)
{
    memset(listener, 0, sizeof *listener);
    listener->server = server;
}

enum status listener_bind(struct listener *listener, uv_loop_t *loop, struct http_server *server, const char *flag,
                          const char *address, char *message, size_t size)
{
    struct sockaddr_storage socket_address;
    listener_init(listener, server);
    uv_tcp_init(loop, &listener->uv.tcp);
    listener->uv.handle.data = listener;
    if (!parse_address(address, &socket_address)) {
        snprintf(message, size, "--%s %s: not an address and a port: use 0.0.0.0:8080 or [::]:8080", flag, address);
        return STATUS_INVALID;
    }
    int error = uv_tcp_bind(&listener->uv.tcp, (struct sockaddr *)&socket_address, 0);
    if (error != 0) {
        return explain(error, flag, address, message, size);
    }
    stream_socket_prepare_listener(&listener->uv.tcp);
    /* libuv reports "in use" only here or at listen: ask at once, so that the error comes before the first scan. */
    struct sockaddr_storage bound;
    int length = sizeof bound;
    error = uv_tcp_getsockname(&listener->uv.tcp, (struct sockaddr *)&bound, &length);
    return error != 0 ? explain(error, flag, address, message, size) : STATUS_OK;
}

/* --- Unix sockets ------------------------------------------------------------------------------------------------- */

/* Whether somebody answers at the socket's file. */
static bool is_alive(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    bool alive = fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return alive;
}

/* Makes room for the socket's file. Returns false where something is there that is not ours to remove. */
static bool remove_stale(const char *path, const char **why)
{
    struct stat found;
    if (lstat(path, &found) != 0) {
        return true;
    }
    if (!S_ISSOCK(found.st_mode)) {
        *why = "a file that is no socket has this name: move it, or choose another name";
        return false;
    }
    if (is_alive(path)) {
        *why = "another server listens there: stop it, or give each a folder of its own (--state)";
        return false;
    }
    return unlink(path) == 0;
}

enum status listener_bind_unix(struct listener *listener, uv_loop_t *loop, struct http_server *server, const char *flag,
                               const char *path, char *message, size_t size)
{
    const char *why = "the old socket cannot be removed: look at the folder's permissions";
    listener_init(listener, server);
    uv_pipe_init(loop, &listener->uv.pipe, 0);
    listener->uv.handle.data = listener;
    if (!file_socket_name(path, listener->path, sizeof listener->path)) {
        snprintf(message, size, "--%s %s: its folder is not there, or its name is too long: choose another", flag,
                 path);
        return STATUS_TOO_LONG;
    }
    if (!remove_stale(listener->path, &why)) {
        snprintf(message, size, "--%s %s: %s", flag, path, why);
        return STATUS_BUSY;
    }
    mode_t mask = umask(0117); /* uv_pipe_chmod would give it to everyone */
    int error = uv_pipe_bind(&listener->uv.pipe, listener->path);
    umask(mask);
    if (error != 0) {
        snprintf(message, size, "--%s %s: %s: the server's user must be able to write to its folder", flag, path,
                 uv_strerror(error));
        return STATUS_IO;
    }
    return STATUS_OK;
}

/* --- accepting ---------------------------------------------------------------------------------------------------- */

static void accept_one(struct listener *listener)
{
    struct http_server *server = listener->server;
    listener->waiting = http_server_is_full(server) || server->draining;
    if (listener->waiting) {
        return;
    }
    listener->waiting = !http_server_accept(server, &listener->uv.stream);
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
    int error = uv_listen(&listener->uv.stream, BACKLOG, on_connection);
    if (error == 0 && listener->path[0] != '\0') {
        snprintf(address, size, "%s", listener->path);
        return STATUS_OK;
    }
    if (error == 0) {
        error = uv_tcp_getsockname(&listener->uv.tcp, (struct sockaddr *)&bound, &length);
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
    if (listener->waiting && !uv_is_closing(&listener->uv.handle)) {
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
    uv_close(&listener->uv.handle, on_closed);
}
