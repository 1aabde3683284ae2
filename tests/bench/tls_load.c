/* Devices that speak TLS, as many at once as wanted from one thread, for tests/bench/tls.py. What makes it hard is that
 * a client's half of a handshake costs more than the server's: nothing is verified but what OpenSSL cannot leave out,
 * and with --hello-only a storm costs its clients next to nothing.
 *
 *   tls_load --port N [--tls 12|13] [--connections N] [--request TEXT --answer BYTES [--status N]] [--kept 1]
 *            [--resume 1] [--hello-only 1] [--pause-us N] [--ms N]
 *
 * With --kept all connections are opened first and each asks once; without, one connection is made and used, whose
 * session those of --resume resume. Then "open" is printed and a line is waited for. For --ms they ask, on the kept
 * connections with a pause behind each answer, or each over a fresh one; without --request a connection ends with its
 * handshake, and with --hello-only as soon as the server answers the ClientHello. When the last is answered a line of
 * JSON is printed, and kept connections are held until the input ends. An answer of another length or status is
 * "wrong", a connection that breaks "failed". A latency is that of an answer on a kept connection, of a fresh one from
 * connecting to its end; with --pause-us also "own", less what this thread waited for its CPU meanwhile. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CIPHER_12     "ECDHE-ECDSA-AES128-GCM-SHA256"
#define CIPHER_13     "TLS_AES_128_GCM_SHA256"
#define HELLO_MAX     1024
#define READ_AHEAD    (64u << 10)
#define OPENING       64 /* connections being opened at once: less than any backlog */
#define EVENTS        256
#define ADDRESSES     200 /* they come from 127.0.2.x, so that ports do not get scarce */
#define LATENCIES_MAX (1u << 22)
#define PATIENCE_MS   20000
#define NS_OF_SECOND  1000000000u

enum state { STATE_NONE, STATE_SHAKING, STATE_ASKED, STATE_RESTING };

struct conn {
    int fd;
    enum state state;
    SSL *ssl; /* NULL = plain */
    size_t got;
    uint64_t began_ns, waited_ns, due_ns;
};

static struct {
    const char *request, *status;
    uint64_t tls, port, connections, answer, kept, resume, hello_only, pause_us, ms;
} options = { .status = "304", .connections = 64 };

static struct {
    SSL_CTX *context;
    SSL_SESSION *session;
    char hello[HELLO_MAX];
    size_t hello_bytes;
    struct conn *conns;
    uint64_t begun, over; /* asks: what is under way is the difference */
    uint64_t answers, bytes, handshakes, resumed, wrong, failed;
    uint64_t end_ns;
    int events, waits; /* epoll; /proc/thread-self/schedstat */
} load;

static uint32_t wall_us[LATENCIES_MAX], own_us[LATENCIES_MAX];

_Noreturn static void fail(const char *what)
{
    (void)fprintf(stderr, "tls_load: %s: %s\n", what, strerror(errno));
    ERR_print_errors_fp(stderr);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_OF_SECOND + (uint64_t)now.tv_nsec;
}

/* For how long this thread was ready while others had its CPU: the second figure of schedstat
 * (Documentation/scheduler/sched-stats.rst of Linux). */
static uint64_t waited_ns(void)
{
    char text[128], *end;
    ssize_t n = options.pause_us > 0 ? pread(load.waits, text, sizeof text - 1, 0) : 0;
    text[n > 0 ? n : 0] = '\0';
    (void)strtoull(text, &end, 10);
    return strtoull(end, NULL, 10);
}

/* --- TLS ---------------------------------------------------------------------------------------------------------- */

static int on_session(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    load.session = load.session == NULL && options.resume != 0 ? session : load.session;
    return load.session == session;
}

/* What every client says first; the server works for it all the same. */
static void make_hello(void)
{
    SSL *ssl = SSL_new(load.context);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    if (ssl == NULL || in == NULL || out == NULL) {
        fail("memory");
    }
    SSL_set_bio(ssl, in, out);
    (void)SSL_connect(ssl);
    int n = BIO_read(out, load.hello, sizeof load.hello);
    if (n <= 0 || BIO_pending(out) > 0) {
        fail("ClientHello");
    }
    load.hello_bytes = (size_t)n;
    SSL_free(ssl);
}

static void set_up_tls(void)
{
    int version = options.tls == 12 ? TLS1_2_VERSION : TLS1_3_VERSION;
    load.context = SSL_CTX_new(TLS_client_method());
    if (load.context == NULL || SSL_CTX_set_min_proto_version(load.context, version) != 1 ||
        SSL_CTX_set_max_proto_version(load.context, version) != 1 ||
        SSL_CTX_set_cipher_list(load.context, CIPHER_12) != 1 ||
        SSL_CTX_set_ciphersuites(load.context, CIPHER_13) != 1) {
        fail("OpenSSL");
    }
    SSL_CTX_set_options(load.context, SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_read_ahead(load.context, 1);
    SSL_CTX_set_default_read_buffer_len(load.context, READ_AHEAD);
    SSL_CTX_set_session_cache_mode(load.context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(load.context, on_session);
    make_hello();
}

/* As recv, but that a peer which only rests is -1 and one that breaks -2. */
static ssize_t take(struct conn *conn, char *to, size_t size)
{
    if (conn->ssl == NULL) {
        ssize_t n = recv(conn->fd, to, size, 0);
        return n >= 0 ? n : errno == EAGAIN ? -1 : -2;
    }
    ERR_clear_error();
    int n = SSL_read(conn->ssl, to, (int)size), error = n > 0 ? SSL_ERROR_NONE : SSL_get_error(conn->ssl, n);
    return n > 0 ? n : error == SSL_ERROR_ZERO_RETURN ? 0 : error == SSL_ERROR_WANT_READ ? -1 : -2;
}

/* --- connections -------------------------------------------------------------------------------------------------- */

static bool goes_on(void)
{
    return load.failed == 0 && now_ns() < load.end_ns;
}

static void begin(struct conn *conn)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)options.port) };
    struct sockaddr_in from = { .sin_family = AF_INET };
    struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = conn };
    int on = 1;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    from.sin_addr.s_addr = htonl(0x7f000201u + (uint32_t)((size_t)(conn - load.conns) % ADDRESSES));
    *conn = (struct conn){ .fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) };
    conn->state = STATE_SHAKING;
    conn->began_ns = now_ns();
    load.begun++;
    /* At once: in a resumed handshake of TLS 1.2 the request follows our own last word. */
    if (conn->fd < 0 || setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        setsockopt(conn->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) != 0 ||
        bind(conn->fd, (struct sockaddr *)&from, sizeof from) != 0 ||
        (connect(conn->fd, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS) ||
        epoll_ctl(load.events, EPOLL_CTL_ADD, conn->fd, &event) != 0) {
        fail("connect");
    }
    if (load.context != NULL && options.hello_only == 0) {
        conn->ssl = SSL_new(load.context);
        if (conn->ssl == NULL || SSL_set_fd(conn->ssl, conn->fd) != 1 ||
            (load.session != NULL && SSL_set_session(conn->ssl, load.session) != 1)) {
            fail("SSL_new");
        }
        SSL_set_connect_state(conn->ssl);
    }
}

static void leave(struct conn *conn)
{
    if (conn->ssl != NULL) {
        SSL_set_shutdown(conn->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* else its session counts as bad */
        SSL_free(conn->ssl);
    }
    (void)close(conn->fd);
    *conn = (struct conn){ .fd = -1 };
}

static void broke(struct conn *conn)
{
    load.failed++;
    load.over++;
    leave(conn);
}

/* Returns false where the connection is not made yet. */
static bool put(struct conn *conn, const char *bytes, size_t n)
{
    ssize_t put = conn->ssl != NULL ? SSL_write(conn->ssl, bytes, (int)n) : send(conn->fd, bytes, n, MSG_NOSIGNAL);
    if (put != (ssize_t)n && (conn->ssl != NULL || put >= 0 || (errno != EAGAIN && errno != ENOTCONN))) {
        broke(conn);
    }
    return put == (ssize_t)n;
}

static void ask(struct conn *conn)
{
    conn->got = 0;
    if (conn->state == STATE_RESTING) {
        load.begun++;
        conn->began_ns = now_ns();
    }
    conn->waited_ns = waited_ns();
    if (put(conn, options.request, strlen(options.request))) {
        conn->state = STATE_ASKED;
    }
}

static void note_latency(const struct conn *conn, uint64_t now)
{
    uint64_t waited = waited_ns() - conn->waited_ns, took = now - conn->began_ns;
    if (load.answers < LATENCIES_MAX) {
        wall_us[load.answers] = (uint32_t)(took / 1000);
        own_us[load.answers] = (uint32_t)((took > waited ? took - waited : 0) / 1000);
    }
    load.answers++;
}

static void answered(struct conn *conn)
{
    uint64_t now = now_ns();
    note_latency(conn, now);
    load.over++;
    if (options.kept != 0) {
        conn->state = STATE_RESTING;
        conn->due_ns = now + options.pause_us * 1000;
        if (options.pause_us == 0 && goes_on()) {
            ask(conn);
        }
        return;
    }
    leave(conn);
    if (goes_on()) {
        begin(conn);
    }
}

/* --- what comes --------------------------------------------------------------------------------------------------- */

static void receive(struct conn *conn)
{
    static char bytes[256 << 10];
    ssize_t n;
    while ((n = take(conn, bytes, sizeof bytes)) > 0) {
        if (options.hello_only != 0) {
            answered(conn);
            return;
        }
        load.wrong += conn->got == 0 && (memcmp(bytes, "HTTP/1.", 7) != 0 || memcmp(bytes + 9, options.status, 3) != 0);
        conn->got += (size_t)n;
        load.bytes += (uint64_t)n;
        if (options.kept != 0 && conn->got >= options.answer) {
            load.wrong += conn->got > options.answer;
            answered(conn);
            return;
        }
    }
    if (n == 0 && options.kept == 0 && options.hello_only == 0) {
        load.wrong += conn->got != options.answer;
        answered(conn);
    } else if (n != -1) {
        broke(conn);
    }
}

/* Returns whether the handshake is over; of a plain connection at once. */
static bool shake(struct conn *conn)
{
    if (conn->ssl == NULL) {
        return true;
    }
    ERR_clear_error();
    int result = SSL_do_handshake(conn->ssl);
    int error = result == 1 ? SSL_ERROR_NONE : SSL_get_error(conn->ssl, result);
    if (error == SSL_ERROR_NONE) {
        load.handshakes++;
        load.resumed += SSL_session_reused(conn->ssl) == 1;
    } else if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
        ERR_print_errors_fp(stderr);
        broke(conn);
    }
    return error == SSL_ERROR_NONE;
}

static void on_event(struct conn *conn)
{
    if (conn->state == STATE_SHAKING && shake(conn)) {
        if (options.hello_only != 0) {
            conn->state = put(conn, load.hello, load.hello_bytes) ? STATE_ASKED : conn->state;
        } else if (options.request == NULL) {
            answered(conn);
        } else {
            ask(conn);
        }
    }
    if (conn->state == STATE_ASKED) {
        receive(conn);
    }
}

/* --- the run ------------------------------------------------------------------------------------------------------ */

/* Those whose pause is over ask. Returns for how many milliseconds nobody will. */
static int ask_due(void)
{
    uint64_t now = now_ns(), next = now + (uint64_t)PATIENCE_MS * 1000000;
    for (size_t i = 0; options.pause_us > 0 && i < options.connections && goes_on(); i++) {
        struct conn *conn = &load.conns[i];
        if (conn->state == STATE_RESTING && conn->due_ns <= now) {
            ask(conn);
        } else if (conn->state == STATE_RESTING && conn->due_ns < next) {
            next = conn->due_ns;
        }
    }
    return (int)((next - now + 999999) / 1000000);
}

static void wait_once(void)
{
    struct epoll_event events[EVENTS];
    int patience_ms = ask_due(), n = epoll_wait(load.events, events, EVENTS, patience_ms);
    if (n == 0 && patience_ms >= PATIENCE_MS) {
        fail("no answer for a long time");
    }
    for (int i = 0; i < n; i++) {
        on_event(events[i].data.ptr);
    }
}

static void wait_for_all(void)
{
    while (load.over < load.begun || (options.pause_us > 0 && goes_on())) {
        wait_once();
    }
}

static void open_all(void)
{
    size_t count = options.kept != 0 ? options.connections : 1;
    while (load.begun < count && load.failed == 0) {
        if (load.begun - load.over < OPENING) {
            begin(&load.conns[load.begun]);
        } else {
            wait_once();
        }
    }
    wait_for_all();
    if (options.resume != 0 && load.session == NULL) {
        fail("the server gives no session to resume");
    }
    if (load.context != NULL) {
        SSL_CTX_set_session_cache_mode(load.context,
                                       SSL_SESS_CACHE_OFF); /* else one of TLS 1.3 is good for once only */
    }
}

static void ask_all(void)
{
    uint64_t began_ns = now_ns();
    load.begun = load.over = load.answers = load.bytes = load.handshakes = load.resumed = 0;
    load.end_ns = began_ns + options.ms * 1000000;
    for (size_t i = 0; i < options.connections; i++) {
        struct conn *conn = &load.conns[i];
        if (options.kept == 0) {
            begin(conn);
        } else if (options.pause_us == 0) {
            ask(conn);
        } else {
            conn->due_ns = began_ns + i * options.pause_us * 1000 / options.connections;
        }
    }
    wait_for_all();
    load.end_ns = now_ns() - began_ns; /* how long it took, from here on */
}

static int compare(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

static void say_latency(const char *name, uint32_t *all_us)
{
    size_t n = load.answers < LATENCIES_MAX ? load.answers : LATENCIES_MAX;
    qsort(all_us, n, sizeof *all_us, compare);
    printf("\"%s_us\": {\"p50\": %u, \"p99\": %u, \"most\": %u}, ", name, all_us[n / 2], all_us[n * 99 / 100],
           all_us[n > 0 ? n - 1 : 0]);
}

static void report(void)
{
    printf("{");
    say_latency("wall", wall_us);
    say_latency("own", own_us);
    printf("\"answers\": %llu, \"bytes\": %llu, \"handshakes\": %llu, \"resumed\": %llu, \"wrong\": %llu, "
           "\"failed\": %llu, \"seconds\": %.6f}\n",
           (unsigned long long)load.answers, (unsigned long long)load.bytes, (unsigned long long)load.handshakes,
           (unsigned long long)load.resumed, (unsigned long long)load.wrong, (unsigned long long)load.failed,
           (double)load.end_ns / NS_OF_SECOND);
    (void)fflush(stdout);
}

/* --- main --------------------------------------------------------------------------------------------------------- */

static bool parse(int argc, char **argv)
{
    const struct {
        const char *name;
        uint64_t *number;
        const char **text;
    } known[] = {
        { "--port", &options.port, NULL },
        { "--tls", &options.tls, NULL },
        { "--connections", &options.connections, NULL },
        { "--request", NULL, &options.request },
        { "--answer", &options.answer, NULL },
        { "--status", NULL, &options.status },
        { "--kept", &options.kept, NULL },
        { "--resume", &options.resume, NULL },
        { "--hello-only", &options.hello_only, NULL },
        { "--pause-us", &options.pause_us, NULL },
        { "--ms", &options.ms, NULL },
    };
    const size_t count = sizeof known / sizeof known[0];
    for (int i = 1; i < argc; i += 2) {
        size_t k = 0;
        while (k < count && strcmp(argv[i], known[k].name) != 0) {
            k++;
        }
        if (k == count || i + 1 == argc) {
            return false;
        }
        if (known[k].text != NULL) {
            *known[k].text = argv[i + 1];
        } else {
            *known[k].number = strtoull(argv[i + 1], NULL, 10);
        }
    }
    return options.port > 0 && options.port < 65536 && options.connections > 0 &&
           (options.tls == 0 || options.tls == 12 || options.tls == 13) &&
           (options.request == NULL) == (options.answer == 0) && (options.kept == 0 || options.request != NULL);
}

static void set_up(void)
{
    if (options.tls != 0) {
        set_up_tls();
    }
    load.conns = calloc(options.connections, sizeof *load.conns);
    load.events = epoll_create1(EPOLL_CLOEXEC);
    load.waits = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    if (load.conns == NULL || load.events < 0 || load.waits < 0) {
        fail("memory, epoll, schedstat");
    }
}

int main(int argc, char **argv)
{
    if (!parse(argc, argv)) {
        (void)fprintf(stderr, "usage: see the head of tests/bench/tls_load.c\n");
        return 2;
    }
    set_up();
    open_all();
    if (load.failed + load.wrong == 0) {
        printf("open\n");
        (void)fflush(stdout);
        if (getchar() != EOF) {
            ask_all();
            report();
            while (getchar() != EOF) {
            }
        }
    }
    return load.failed + load.wrong > 0;
}
