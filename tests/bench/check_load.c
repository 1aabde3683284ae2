/* Devices that check for updates, as many as wanted from one thread, for tests/bench/growth.py. What makes it hard is
 * not to be what is measured: requests are formatted beforehand, and only the MAC is written into a copy.
 *
 *   check_load --port N --fresh FILE --kept FILE [--devices N] [--open N] [--at-once N] [--ask-kept 1] [--seed N]
 *              [--ms N | --checks N]
 *
 * FILE holds requests, each with an empty line at its end and, once, a MAC of `@`; device n asks with request n modulo
 * their number. First --open connections are opened and each asks once (--kept). Then "open" is printed and a line is
 * waited for. Then devices in any order ask over connections of their own (--fresh), --at-once under way at a time; or,
 * with --ask-kept, over the open ones, in any order. After --ms, or --checks, no other check begins; when all are
 * answered a line of JSON is printed, and the open connections are kept until the input ends. An answer that is not a
 * 304 is "wrong", and a connection that fails, or is not answered for PATIENCE_S, is "failed". */
#include "tests/bench/bench_devices.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAC_PLACE     "@@:@@:@@:@@:@@:@@"
#define REQUEST_MAX   2048
#define TEMPLATES_MAX 20000
#define OPENING       256 /* connections being opened at once: less than any backlog */
#define EVENTS        256
#define PATIENCE_S    20

struct request_form {
    const char *bytes;
    size_t length, mac_at;
};

struct forms {
    struct request_form items[TEMPLATES_MAX];
    size_t count;
};

struct conn {
    int fd; /* -1: not in use */
    bool kept, sent, answered;
    uint32_t device;
};

static struct forms fresh_forms, kept_forms;
static size_t port, devices = 1000, to_open, at_once = 64, ask_kept, ms, checks_max, seed = 1;
static const char *fresh_file, *kept_file;

static struct conn *open_conns, *fresh_conns;
static uint64_t begun, done, wrong, failed, random_state;
static int events_fd;

_Noreturn static void fail(const char *what)
{
    (void)fprintf(stderr, "check_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    long size = file != NULL && fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    char *text = size >= 0 ? calloc(1, (size_t)size + 1) : NULL;
    if (text == NULL || fseek(file, 0, SEEK_SET) != 0 || fread(text, 1, (size_t)size, file) != (size_t)size) {
        fail(path);
    }
    (void)fclose(file);
    return text;
}

static void read_forms(struct forms *forms, const char *path)
{
    const char *end, *at = read_file(path);
    while ((end = strstr(at, "\r\n\r\n")) != NULL && forms->count < TEMPLATES_MAX) {
        struct request_form *form = &forms->items[forms->count++];
        const char *mac = strstr(at, MAC_PLACE);
        form->bytes = at;
        form->length = (size_t)(end + 4 - at);
        if (mac == NULL || mac > end || form->length > REQUEST_MAX) {
            errno = EINVAL;
            fail(path);
        }
        form->mac_at = (size_t)(mac - at);
        at = end + 4;
    }
}

static size_t write_request(char *text, const struct forms *forms, uint32_t device)
{
    static const char digits[] = "0123456789ABCDEF";
    const struct request_form *form = &forms->items[device % forms->count];
    struct mac mac = bench_mac(device);
    memcpy(text, form->bytes, form->length);
    for (size_t i = 0; i < sizeof mac.bytes; i++) {
        text[form->mac_at + 3 * i] = digits[mac.bytes[i] >> 4];
        text[form->mac_at + 3 * i + 1] = digits[mac.bytes[i] & 15];
    }
    return form->length;
}

/* --- connections -------------------------------------------------------------------------------------------------- */

static void watch(struct conn *conn, int how, uint32_t events)
{
    struct epoll_event event = { .events = events, .data.ptr = conn };
    if (epoll_ctl(events_fd, how, conn->fd, &event) != 0) {
        fail("epoll_ctl");
    }
}

/* Returns false where the connection is not made yet. */
static bool send_request(struct conn *conn)
{
    char text[REQUEST_MAX];
    size_t n = write_request(text, conn->kept ? &kept_forms : &fresh_forms, conn->device);
    ssize_t taken = send(conn->fd, text, n, MSG_NOSIGNAL);
    conn->sent = taken == (ssize_t)n;
    if (!conn->sent && errno != EAGAIN && errno != ENOTCONN) {
        fail("send");
    }
    return conn->sent;
}

/* Those that stay open come from another address, so that they take no port from those that come and go. */
static void begin_connection(struct conn *conn, bool kept)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    struct sockaddr_in from = { .sin_family = AF_INET };
    int on = 1;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
    *conn = (struct conn){ .fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), .kept = kept };
    conn->device = bench_below(&random_state, (uint32_t)devices);
    if (conn->fd < 0) {
        fail("socket");
    }
    if (kept && (setsockopt(conn->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) != 0 ||
                 bind(conn->fd, (struct sockaddr *)&from, sizeof from) != 0)) {
        fail("bind");
    }
    if (connect(conn->fd, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS) {
        fail("connect");
    }
    watch(conn, EPOLL_CTL_ADD, send_request(conn) ? EPOLLIN : EPOLLIN | EPOLLOUT);
    begun++;
}

static void ask_again(struct conn *conn)
{
    conn->device = bench_below(&random_state, (uint32_t)devices);
    conn->answered = false;
    if (!send_request(conn)) {
        fail("a kept connection takes no request");
    }
    begun++;
}

static void finish(struct conn *conn, bool good)
{
    failed += !good;
    done++;
    if (!conn->kept || !good) {
        close(conn->fd);
        conn->fd = -1;
    }
}

/* Returns whether its check is done. */
static bool receive(struct conn *conn)
{
    char answer[4096];
    ssize_t n;
    while ((n = recv(conn->fd, answer, sizeof answer, 0)) > 0) {
        bool whole = n > 16 && memcmp(answer + n - 4, "\r\n\r\n", 4) == 0;
        wrong += conn->answered || !whole || memcmp(answer, "HTTP/1.", 7) != 0 || memcmp(answer + 8, " 304 ", 5) != 0;
        conn->answered = true;
        if (conn->kept) {
            finish(conn, true);
            return true;
        }
    }
    if (n < 0 && errno == EAGAIN) {
        return false;
    }
    finish(conn, n == 0 && conn->answered && !conn->kept);
    return true;
}

/* One event. Returns whether a check is done. */
static bool on_event(const struct epoll_event *event)
{
    struct conn *conn = event->data.ptr;
    if (conn->fd < 0) {
        return false;
    }
    if (!conn->sent && (event->events & EPOLLOUT) != 0) {
        if (send_request(conn)) {
            watch(conn, EPOLL_CTL_MOD, EPOLLIN);
        }
        return false;
    }
    return receive(conn);
}

/* --- the run ------------------------------------------------------------------------------------------------------ */

typedef bool (*go_on_fn)(uint64_t began_ns);
typedef void (*next_fn)(struct conn *conn);

/* Waits for events, and begins the next check for each that is done as long as `go_on`; until none is under way. */
static void run(uint64_t began_ns, go_on_fn go_on, next_fn next)
{
    struct epoll_event events[EVENTS];
    while (done < begun) {
        int n = epoll_wait(events_fd, events, EVENTS, PATIENCE_S * 1000);
        if (n <= 0) {
            failed += begun - done;
            return;
        }
        bool goes_on = go_on(began_ns);
        for (int i = 0; i < n; i++) {
            if (on_event(&events[i]) && goes_on && failed == 0) {
                next(events[i].data.ptr);
            }
        }
    }
}

static bool open_more(uint64_t began_ns)
{
    (void)began_ns;
    return true;
}

static void open_next(struct conn *conn)
{
    (void)conn;
    if (begun < to_open) {
        begin_connection(&open_conns[begun], true);
    }
}

static bool ask_more(uint64_t began_ns)
{
    return checks_max != 0 ? begun < checks_max : now_ns() - began_ns < ms * 1000000;
}

static void ask_next(struct conn *conn)
{
    if (ask_kept != 0) {
        struct conn *other = &open_conns[bench_below(&random_state, (uint32_t)to_open)];
        ask_again(other->answered ? other : conn); /* conn is answered; the other may be waiting */
    } else {
        begin_connection(conn, false);
    }
}

static void open_all(void)
{
    open_conns = calloc(to_open + 1, sizeof *open_conns);
    for (size_t i = 0; i < OPENING && i < to_open; i++) {
        open_next(NULL);
    }
    run(0, open_more, open_next);
}

static void ask_all(void)
{
    uint64_t began_ns = now_ns();
    begun = done = 0;
    fresh_conns = calloc(at_once, sizeof *fresh_conns);
    for (size_t i = 0; i < at_once; i++) {
        if (ask_kept == 0) {
            begin_connection(&fresh_conns[i], false);
        } else if (i < to_open) {
            ask_again(&open_conns[i]);
        }
    }
    run(began_ns, ask_more, ask_next);
    printf("{\"checks\": %llu, \"wrong\": %llu, \"failed\": %llu, \"seconds\": %.6f}\n", (unsigned long long)done,
           (unsigned long long)wrong, (unsigned long long)failed, (double)(now_ns() - began_ns) / 1e9);
    (void)fflush(stdout);
}

/* --- main --------------------------------------------------------------------------------------------------------- */

static bool parse(int argc, char **argv)
{
    struct {
        const char *name;
        size_t *number;
        const char **text;
    } const options[] = {
        { "--port", &port, NULL },         { "--fresh", NULL, &fresh_file },  { "--kept", NULL, &kept_file },
        { "--devices", &devices, NULL },   { "--open", &to_open, NULL },      { "--at-once", &at_once, NULL },
        { "--ask-kept", &ask_kept, NULL }, { "--checks", &checks_max, NULL }, { "--ms", &ms, NULL },
        { "--seed", &seed, NULL },
    };
    for (int i = 1; i < argc; i += 2) {
        size_t k = 0;
        while (k < sizeof options / sizeof options[0] && strcmp(argv[i], options[k].name) != 0) {
            k++;
        }
        if (k == sizeof options / sizeof options[0] || i + 1 == argc) {
            return false;
        }
        if (options[k].text != NULL) {
            *options[k].text = argv[i + 1];
        } else {
            *options[k].number = strtoul(argv[i + 1], NULL, 10);
        }
    }
    return port > 0 && fresh_file != NULL && kept_file != NULL && devices > 0 && at_once > 0 &&
           (ms > 0 || checks_max > 0) && (ask_kept == 0 || to_open > 0);
}

int main(int argc, char **argv)
{
    struct rlimit limit;
    if (!parse(argc, argv)) {
        (void)fprintf(stderr, "usage: see the head of tests/bench/check_load.c\n");
        return 2;
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    random_state = 88172645463325252u + seed * 2654435761u;
    read_forms(&fresh_forms, fresh_file);
    read_forms(&kept_forms, kept_file);
    events_fd = epoll_create1(EPOLL_CLOEXEC);
    open_all();
    if (failed + wrong == 0) {
        printf("open\n");
        (void)fflush(stdout);
        (void)getchar();
        ask_all();
        while (getchar() != EOF) {
        }
    }
    return failed + wrong > 0;
}
