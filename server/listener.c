/* Listening sockets under uv_poll instead of uv_listen: to pause is to stop polling, which libuv's own accepting
 * cannot.
 *
 * After a command to a whole type thousands of devices come at once. What overflows the kernel's queue is not just
 * late: of a connection whose first bytes find the queue full the kernel keeps neither the bytes nor, some seconds
 * later, the connection, and answers the device's next try with a reset. A queue is no longer than net.core.somaxconn,
 * so the devices' door has several, on one address (SO_REUSEPORT), among which the kernel deals out who comes.
 *
 * What makes it hard is the end of the descriptors. We never accept into the last ones (app_settings keeps some aside),
 * but the limit can be lowered under a running server, and other parts of it need some, too. A connection that cannot
 * be accepted keeps the socket readable, so the loop would be woken for ever: a spare descriptor is given up to accept
 * and close it, and where even that does not help, we pause.
 */
#include "server/listener.h"

#include "base/file.h"
#include "base/log.h"
#include "server/http_crowd.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG        16384 /* of each queue; the system may allow less */
#define BACKLOG_MIN    4096  /* for thousands at once */
#define ACCEPTS_A_TURN 64    /* before other events of the loop get theirs */
#define RETRY_MS       1000
#define TELL_AGAIN_MS  60000

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
        { EADDRINUSE, STATUS_BUSY, "another program has this port: stop it, or choose another, such as 0.0.0.0:8081" },
        { EACCES, STATUS_DENIED, "ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher port" },
        { EADDRNOTAVAIL, STATUS_NOT_FOUND, "this machine has no such address: use 0.0.0.0 for all of its own" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].error == error) {
            snprintf(message, size, "--%s %s: %s: %s", flag, address, uv_strerror(-error), rows[i].remedy);
            return rows[i].status;
        }
    }
    snprintf(message, size, "--%s %s: %s", flag, address, uv_strerror(-error));
    return STATUS_IO;
}

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

static void take_spare(struct listener *listener)
{
    if (listener->spare_fd < 0) {
        listener->spare_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC); /* O_PATH: no sandbox minds */
    }
}

/* One queue more, of that socket, which it owns from now on. Returns 0 or an errno. */
static int add_queue(struct listener *listener, int fd)
{
    struct listener_queue *queue = &listener->queues[listener->queue_count];
    int error = fd < 0 ? errno : -uv_poll_init(listener->retry.loop, &queue->poll, fd);
    if (error != 0) {
        close_fd(&fd);
        return error;
    }
    queue->listener = listener;
    queue->fd = fd;
    queue->poll.data = queue;
    listener->queue_count++;
    return 0;
}

static int new_socket(int family)
{
    return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/* With its first socket. Returns 0 or an errno. */
static int listener_init(struct listener *listener, uv_loop_t *loop, struct http_server *server, int family)
{
    memset(listener, 0, sizeof *listener);
    listener->server = server;
    listener->spare_fd = -1;
    uv_timer_init(loop, &listener->retry);
    listener->retry.data = listener;
    take_spare(listener);
    return add_queue(listener, new_socket(family));
}

static int bind_tcp(int fd, const struct sockaddr_storage *address)
{
    int on = 1, off = 0;
    bool is_v6 = address->ss_family == AF_INET6;
    socklen_t length = is_v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        (is_v6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) != 0)) {
        return errno;
    }
    return bind(fd, (const struct sockaddr *)address, length) != 0 ? errno : 0;
}

enum status listener_bind(struct listener *listener, uv_loop_t *loop, struct http_server *server, const char *flag,
                          const char *address, char *message, size_t size)
{
    struct sockaddr_storage socket_address;
    memset(&socket_address, 0, sizeof socket_address);
    bool good = parse_address(address, &socket_address);
    int error = listener_init(listener, loop, server, good ? socket_address.ss_family : AF_INET);
    if (!good) {
        snprintf(message, size, "--%s %s: not an address and a port: use 0.0.0.0:8080 or [::]:8080", flag, address);
        return STATUS_INVALID;
    }
    if (error == 0) {
        error = bind_tcp(listener->queues[0].fd, &socket_address);
    }
    if (error != 0) {
        return explain(error, flag, address, message, size);
    }
    stream_socket_prepare_listener(listener->queues[0].fd);
    return STATUS_OK;
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
    const char *why =
        "the old socket cannot be removed: the server's user must be able to write to its folder; or name "
        "another place, such as --admin-socket /run/updraft/admin.sock";
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int error = listener_init(listener, loop, server, AF_UNIX);
    if (!file_socket_name(path, listener->path, sizeof listener->path)) {
        snprintf(message, size, "--%s %s: its folder is not there, or its name is too long: choose another", flag,
                 path);
        return STATUS_TOO_LONG;
    }
    if (!remove_stale(listener->path, &why)) {
        snprintf(message, size, "--%s %s: %s", flag, path, why);
        return STATUS_BUSY;
    }
    snprintf(address.sun_path, sizeof address.sun_path, "%s", listener->path);
    mode_t mask = umask(0117);
    if (error == 0 && bind(listener->queues[0].fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        error = errno;
    }
    umask(mask);
    listener->is_ours = error == 0;
    if (error != 0) {
        snprintf(message, size,
                 "--%s %s: %s: the server's user must be able to write to its folder; or name another place, such as "
                 "--%s /run/updraft/admin.sock",
                 flag, path, uv_strerror(-error), flag);
        return STATUS_IO;
    }
    return STATUS_OK;
}

/* --- accepting ---------------------------------------------------------------------------------------------------- */

static void on_readable(uv_poll_t *poll, int status, int events);

static void pause_accepting(struct listener *listener)
{
    listener->paused = true;
    for (unsigned i = 0; i < listener->queue_count; i++) {
        uv_poll_stop(&listener->queues[i].poll);
    }
}

/* Whose poll starts first is heard first: each in turn, or a server at its limit would mostly hear one queue. */
static void poll_queues(struct listener *listener)
{
    listener->first++;
    for (unsigned i = 0; i < listener->queue_count; i++) {
        struct listener_queue *queue = &listener->queues[(listener->first + i) % listener->queue_count];
        if (queue->open) {
            uv_poll_start(&queue->poll, UV_READABLE, on_readable);
        }
    }
}

static void on_retry(uv_timer_t *timer)
{
    listener_resume(timer->data);
}

static void tell(struct listener *listener, int error)
{
    const char *remedy =
        error == EMFILE   ? "raise the descriptor limit (ulimit -n, LimitNOFILE=) or lower --connections-max"
        : error == ENFILE ? "raise the machine's limit (sysctl fs.file-max)"
                          : "the machine is short of memory: lower --connections-max or --image-memory";
    uint64_t now_ms = uv_now(listener->retry.loop);
    struct log_line line;
    if (listener->told_ms != 0 && now_ms - listener->told_ms < TELL_AGAIN_MS) {
        return;
    }
    log_begin(&line, LOG_WARN, "accept_failed");
    log_text(&line, "why", uv_strerror(-error));
    log_number(&line, "turned_away", (int64_t)listener->turned_away);
    log_text(&line, "remedy", remedy);
    log_end(&line);
    listener->told_ms = now_ms;
    listener->turned_away = 0;
}

/* No descriptor is left: the spare one makes room to accept those who wait and close them. */
static void turn_away(struct listener_queue *queue, int error)
{
    struct listener *listener = queue->listener;
    uint64_t before = listener->turned_away;
    close_fd(&listener->spare_fd);
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int fd = accept4(queue->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) {
            break;
        }
        close(fd);
        listener->turned_away++;
        http_server_count_refusal(listener->server, HTTP_REFUSED_NO_DESCRIPTOR);
    }
    take_spare(listener);
    if (listener->turned_away == before) {
        pause_accepting(listener);
        uv_timer_start(&listener->retry, on_retry, RETRY_MS, 0);
    }
    tell(listener, error);
}

/* Returns false where nobody else can be accepted now. */
static bool accept_one(struct listener_queue *queue, bool somebody_waits)
{
    struct listener *listener = queue->listener;
    struct http_server *server = listener->server;
    if (http_server_is_full(server)) {
        http_conn_start_all(server); /* who has just come with a question is not sent away unheard to make room */
    }
    if (http_server_is_full(server) || server->draining) {
        if (somebody_waits) {
            (void)(!server->draining && http_crowd_make_room(server)); /* on_room comes when it is made */
            pause_accepting(listener);
        }
        return false;
    }
    union stream_address peer = { .any.sa_family = AF_UNSPEC };
    socklen_t length = sizeof peer;
    int fd = accept4(queue->fd, &peer.any, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        return http_server_take(server, fd, &peer, listener->tls);
    }
    switch (errno) {
    case EAGAIN:
        return false;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        turn_away(queue, errno);
        return false;
    default:
        return true; /* of that connection alone: it was reset, or its route is gone (accept(2)) */
    }
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    for (int i = 0; i < ACCEPTS_A_TURN && accept_one(poll->data, i == 0); i++) {
    }
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static void defer(int fd)
{
    int seconds = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof seconds);
}

static void share_address(const struct listener *listener, int on)
{
    for (unsigned i = 0; i < listener->queue_count; i++) {
        (void)setsockopt(listener->queues[i].fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    }
}

/* One queue more. Returns false where that cannot be had: the door has those before. */
static bool widen(struct listener *listener, const struct sockaddr_storage *bound)
{
    int fd = new_socket(bound->ss_family), on = 1;
    if (fd >= 0) {
        stream_socket_prepare_listener(fd);
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
        if (bind_tcp(fd, bound) != 0) {
            close_fd(&fd);
        }
    }
    return add_queue(listener, fd) == 0;
}

/* The most places of a queue that the system allows; 0 = not known. */
static long read_queue_max(void)
{
    char text[16] = "";
    FILE *file = fopen("/proc/sys/net/core/somaxconn", "re");
    long max = file != NULL && fgets(text, sizeof text, file) != NULL ? strtol(text, NULL, 10) : 0;
    if (file != NULL) {
        fclose(file);
    }
    return max;
}

/* While they are bound the address is shared, and then not again until the first listens: a second server is told of
 * the first. */
void listener_for_crowds(struct listener *listener)
{
    struct sockaddr_storage bound = { .ss_family = AF_UNSPEC };
    socklen_t length = sizeof bound;
    listener->for_crowds = getsockname(listener->queues[0].fd, (struct sockaddr *)&bound, &length) == 0;
    share_address(listener, 1);
    while (listener->for_crowds && listener->queue_count < LISTENER_QUEUES_MAX && widen(listener, &bound)) {
    }
    share_address(listener, 0);
    listener->queue_max = read_queue_max(); /* here, where it can be read */
    for (unsigned i = 0; i < listener->queue_count; i++) {
        defer(listener->queues[i].fd);
    }
}

/* The first listens already. */
static void open_other_queues(struct listener *listener)
{
    share_address(listener, 1);
    for (unsigned i = 1; i < listener->queue_count; i++) {
        listener->queues[i].open = listen(listener->queues[i].fd, BACKLOG) == 0;
    }
}

/* The system's limit may be so low that a crowd overflows the queues. */
static void look_at_limit(const struct listener *listener, const char *address)
{
    struct log_line line;
    if (listener->queue_max <= 0 || listener->queue_max >= BACKLOG_MIN) {
        return;
    }
    log_begin(&line, LOG_WARN, "listen_queue_short");
    log_text(&line, "listen", address);
    log_number(&line, "places", listener->queue_max * listener->queue_count);
    log_text(&line, "why", "net.core.somaxconn is low: of more devices that come at once, some may be lost");
    log_text(&line, "remedy", "sysctl net.core.somaxconn=4096, where the server runs; then restart it");
    log_end(&line);
}

enum status listener_start(struct listener *listener, char *address, size_t size)
{
    struct sockaddr_storage bound = { .ss_family = AF_UNSPEC };
    socklen_t length = sizeof bound;
    int fd = listener->queues[0].fd;
    if (listen(fd, BACKLOG) != 0 || getsockname(fd, (struct sockaddr *)&bound, &length) != 0) {
        int error = errno;
        snprintf(address, size, "%s", uv_strerror(-error));
        return error == EADDRINUSE ? STATUS_BUSY : STATUS_IO;
    }
    listener->queues[0].open = true;
    if (listener->path[0] != '\0') {
        snprintf(address, size, "%s", listener->path);
    } else {
        stream_socket_print_address((struct sockaddr *)&bound, address, size);
    }
    if (listener->for_crowds) {
        open_other_queues(listener);
        look_at_limit(listener, address);
    }
    listener->open = true;
    poll_queues(listener);
    return STATUS_OK;
}

void listener_resume(struct listener *listener)
{
    if (listener->open && listener->paused) {
        listener->paused = false;
        take_spare(listener);
        uv_timer_stop(&listener->retry);
        poll_queues(listener);
    }
}

static void on_retry_closed(uv_handle_t *handle)
{
    struct listener *listener = handle->data;
    listener->on_closed(listener);
}

static void close_next(struct listener *listener);

static void on_poll_closed(uv_handle_t *handle)
{
    struct listener_queue *queue = handle->data;
    close_next(queue->listener);
}

static void close_next(struct listener *listener)
{
    if (listener->queue_count > 0) {
        uv_close((uv_handle_t *)&listener->queues[--listener->queue_count].poll, on_poll_closed);
    } else {
        uv_close((uv_handle_t *)&listener->retry, on_retry_closed);
    }
}

void listener_close(struct listener *listener, void (*on_listener_closed)(struct listener *listener))
{
    listener->on_closed = on_listener_closed;
    listener->open = false;
    for (unsigned i = 0; i < listener->queue_count; i++) {
        uv_poll_stop(&listener->queues[i].poll); /* at once: the socket may go */
        close_fd(&listener->queues[i].fd);
    }
    close_next(listener);
    close_fd(&listener->spare_fd);
    if (listener->is_ours) {
        (void)unlink(listener->path);
    }
}
