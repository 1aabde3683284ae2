/* Thousands of slow devices, each downloading one image: what the server must hold while radios take their time.
 *
 * What makes it hard is that the load must cost little on the machine that is measured, and stay slow. So nobody waits
 * for readiness: every connection is looked at in turn, once a period, and takes what its radio brought since; the
 * socket's small receive buffer makes the server wait as a device's would. The turn never lags more than a period.
 *
 *   slow_load --port P --path PATH --size BYTES --md5 HEX [--host IP] [--connections N] [--rate BYTES/S] [--opening
 * N/S]
 *             [--mss BYTES] [--seconds-max S] [--tls 12|13]
 *
 * With --tls the bytes of the radio are those of the records: OpenSSL reads and writes memory.
 *
 * Says on its output, a line of JSON each: {"event": "loaded"} when all receive, {"event": "done", ...} at the end.
 * Exits with 0 when every download was whole by its MD5.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RECEIVE_BUFFER  8192       /* as a device's, whose TCP has a few segments */
#define TAKE_BYTES      4096       /* of one look, when all goes well */
#define TAKE_BYTES_MAX  8192       /* after a delay; more than its buffer no device has at once */
#define PER_SOURCE      4000       /* connections from one address 127.1.0.x, so that ports do not get scarce */
#define NS              1000000000 /* of a second */
#define BATCH_NS        1000000    /* looks that are due within it follow one another */
#define MD5_BYTES       16
#define DESCRIPTORS_OWN 16 /* standard streams and what libraries open */

enum state { STATE_NEW, STATE_CONNECTING, STATE_SHAKING, STATE_HEAD, STATE_BODY, STATE_OVER };

struct download {
    int fd;
    enum state state;
    unsigned blank;    /* bytes of the head's last "\r\n\r\n" that were seen */
    size_t head_bytes; /* so far */
    char status[12];   /* "HTTP/1.1 200" */
    uint64_t began_ns;
    uint64_t taken; /* bytes of all */
    uint64_t body;  /* bytes of the image */
    EVP_MD_CTX *md5;
    SSL *ssl; /* NULL = plain */
};

static struct {
    const char *host, *path, *md5;
    uint64_t port, size, connections, rate, opening, mss, seconds_max, tls;
} options = {
    .host = "127.0.0.1", .connections = 10000, .rate = 16384, .opening = 2500, .mss = 1460, .seconds_max = 600
};

static struct {
    struct download *all;
    double *seconds; /* of each that was whole */
    size_t receiving, whole, failed, looks, empty;
    uint64_t late_ns;
    char request[300];
    int request_bytes;
    unsigned char md5[MD5_BYTES];
    struct sockaddr_in server;
    uint64_t start_ns;
    bool told;
    SSL_CTX *tls;
} load;

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS + (uint64_t)now.tv_nsec;
}

/* --- one download ------------------------------------------------------------------------------------------------- */

static void end(struct download *download, const char *why)
{
    if (why != NULL) {
        if (load.failed++ < 5) {
            (void)fprintf(stderr, "slow_load: a download failed after %" PRIu64 " bytes of the image: %s\n",
                          download->body, why);
        }
    } else {
        load.seconds[load.whole++] = (double)(now_ns() - download->began_ns) / NS;
    }
    if (download->fd >= 0) {
        (void)close(download->fd);
    }
    EVP_MD_CTX_free(download->md5);
    SSL_free(download->ssl);
    download->md5 = NULL;
    download->ssl = NULL;
    download->state = STATE_OVER;
}

static void begin(struct download *download)
{
    static const int one = 1, buffer = RECEIVE_BUFFER;
    int mss = (int)options.mss;
    struct sockaddr_in source = { .sin_family = AF_INET };
    source.sin_addr.s_addr = htonl(0x7f010001u + (uint32_t)((size_t)(download - load.all) / PER_SOURCE));
    download->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    download->md5 = EVP_MD_CTX_new();
    download->state = STATE_CONNECTING;
    download->began_ns = now_ns();
    if (download->fd < 0 || download->md5 == NULL || EVP_DigestInit_ex(download->md5, EVP_md5(), NULL) != 1) {
        end(download, "no descriptor or memory is left: raise ulimit -n");
        return;
    }
    (void)setsockopt(download->fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    (void)setsockopt(download->fd, IPPROTO_TCP, TCP_MAXSEG, &mss, sizeof mss);
    (void)setsockopt(download->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(download->fd, (struct sockaddr *)&source, sizeof source) != 0 ||
        (connect(download->fd, (struct sockaddr *)&load.server, sizeof load.server) != 0 && errno != EINPROGRESS)) {
        end(download, strerror(errno));
    }
}

/* Returns whether it was sent. */
static bool put(struct download *download, const char *bytes, int bytes_n)
{
    ssize_t n = send(download->fd, bytes, (size_t)bytes_n, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n == bytes_n) {
        return true;
    }
    if (n >= 0 || (errno != EAGAIN && errno != ENOTCONN)) {
        end(download, n >= 0 ? "the request was taken in pieces" : strerror(errno));
    }
    return false;
}

static void ask(struct download *download)
{
    if (put(download, load.request, load.request_bytes)) {
        download->state = STATE_HEAD;
    }
}

/* Returns how many of the bytes belong to the head. */
static size_t take_head(struct download *download, const char *bytes, size_t n)
{
    static const char blank[4] = { '\r', '\n', '\r', '\n' };
    size_t used = 0;
    while (used < n && download->blank < sizeof blank) {
        char c = bytes[used++];
        if (download->head_bytes < sizeof download->status) {
            download->status[download->head_bytes] = c;
        }
        download->head_bytes++;
        download->blank = c == blank[download->blank] ? download->blank + 1 : c == '\r';
    }
    if (download->blank == sizeof blank && download->state == STATE_HEAD) {
        download->state = STATE_BODY;
        load.receiving++;
    }
    return used;
}

static void check(struct download *download)
{
    unsigned char md5[EVP_MAX_MD_SIZE];
    if (download->state != STATE_BODY || memcmp(download->status + 9, "200", 3) != 0) {
        end(download, "the answer is no 200");
    } else if (download->body != options.size) {
        end(download, "it was cut");
    } else if (EVP_DigestFinal_ex(download->md5, md5, NULL) != 1 || memcmp(md5, load.md5, MD5_BYTES) != 0) {
        end(download, "its MD5 is another");
    } else {
        end(download, NULL);
    }
}

static void use(struct download *download, const char *bytes, size_t n)
{
    size_t head = download->state == STATE_HEAD ? take_head(download, bytes, n) : 0;
    download->body += n - head;
    (void)EVP_DigestUpdate(download->md5, bytes + head, n - head);
}

/* --- over TLS ----------------------------------------------------------------------------------------------------- */

static bool set_up_tls(void)
{
    int version = options.tls == 12 ? TLS1_2_VERSION : TLS1_3_VERSION;
    load.tls = SSL_CTX_new(TLS_client_method());
    return load.tls != NULL && SSL_CTX_set_min_proto_version(load.tls, version) == 1 &&
           SSL_CTX_set_max_proto_version(load.tls, version) == 1;
}

/* Returns whether all that OpenSSL wrote was sent. */
static bool put_records(struct download *download)
{
    char *bytes;
    BIO *out = SSL_get_wbio(download->ssl);
    int n = (int)BIO_get_mem_data(out, &bytes);
    return n == 0 || (put(download, bytes, n) && BIO_reset(out) == 1);
}

static void say_hello(struct download *download)
{
    if (download->ssl == NULL) {
        download->ssl = SSL_new(load.tls);
        if (download->ssl == NULL) {
            end(download, "memory is short");
            return;
        }
        SSL_set_bio(download->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
        SSL_set_connect_state(download->ssl);
        (void)SSL_do_handshake(download->ssl);
    }
    if (put_records(download)) {
        download->state = STATE_SHAKING;
    }
}

static void use_records(struct download *download, const char *bytes, size_t n)
{
    static char plain[SSL3_RT_MAX_PLAIN_LENGTH];
    int got = 0;
    (void)BIO_write(SSL_get_rbio(download->ssl), bytes, (int)n);
    if (download->state == STATE_SHAKING && SSL_do_handshake(download->ssl) == 1) {
        (void)SSL_write(download->ssl, load.request, load.request_bytes);
        download->state = STATE_HEAD;
    }
    if (!put_records(download)) {
        return;
    }
    while (download->state != STATE_SHAKING && (got = SSL_read(download->ssl, plain, sizeof plain)) > 0) {
        use(download, plain, (size_t)got);
    }
}

/* --- in time ------------------------------------------------------------------------------------------------------ */

/* What the radio brought since the last look. */
static void take(struct download *download, uint64_t now)
{
    static char bytes[TAKE_BYTES_MAX];
    uint64_t brought = options.rate * (now - download->began_ns) / NS;
    uint64_t want = brought > download->taken ? brought - download->taken : 0;
    want = want < TAKE_BYTES_MAX ? want : TAKE_BYTES_MAX;
    ssize_t n = want > 0 ? recv(download->fd, bytes, (size_t)want, MSG_DONTWAIT) : -1;
    load.looks++;
    load.empty += n < 0;
    if (n > 0) {
        download->taken += (uint64_t)n;
        (download->ssl != NULL ? use_records : use)(download, bytes, (size_t)n);
    } else if (n == 0) {
        check(download);
    } else if (want > 0 && errno != EAGAIN && errno != EINTR) {
        end(download, strerror(errno));
    }
}

static void look(struct download *download, uint64_t now)
{
    uint64_t number = (uint64_t)(download - load.all);
    if (download->state == STATE_NEW && now - load.start_ns >= number * NS / options.opening) {
        begin(download);
    } else if (download->state == STATE_CONNECTING) {
        (load.tls != NULL ? say_hello : ask)(download);
    } else if (download->state != STATE_NEW && download->state != STATE_OVER) {
        take(download, now);
    }
}

/* --- all ---------------------------------------------------------------------------------------------------------- */

static void sleep_until(uint64_t ns)
{
    struct timespec until = { .tv_sec = (time_t)(ns / NS), .tv_nsec = (long)(ns % NS) };
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
    }
}

/* The look number k is due k/connections periods after the start. */
static bool run(void)
{
    uint64_t period_ns = TAKE_BYTES * (uint64_t)NS / options.rate;
    load.start_ns = now_ns();
    for (uint64_t k = 0; load.whole + load.failed < options.connections; k++) {
        uint64_t due_ns = load.start_ns + load.late_ns + (k / options.connections) * period_ns +
                          (k % options.connections) * period_ns / options.connections;
        uint64_t now = now_ns();
        if (now < due_ns) {
            sleep_until(due_ns + BATCH_NS);
            now = now_ns();
        } else if (now - due_ns > period_ns) {
            load.late_ns += now - due_ns;
        }
        look(&load.all[k % options.connections], now);
        if (!load.told && load.receiving == options.connections) {
            load.told = true;
            printf("{\"event\": \"loaded\", \"seconds\": %.2f}\n", (double)(now - load.start_ns) / NS);
            (void)fflush(stdout);
        }
        if (now - load.start_ns > options.seconds_max * NS) {
            (void)fprintf(stderr, "slow_load: %zu of %" PRIu64 " downloads were whole after %" PRIu64 " s\n",
                          load.whole, options.connections, options.seconds_max);
            return false;
        }
    }
    return load.failed == 0;
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static void report(void)
{
    struct rusage used;
    (void)getrusage(RUSAGE_SELF, &used);
    double cpu_s = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                   (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    qsort(load.seconds, load.whole, sizeof *load.seconds, compare);
    printf("{\"event\": \"done\", \"whole\": %zu, \"failed\": %zu, \"seconds\": %.2f, \"cpu_s\": %.2f, "
           "\"shortest_s\": %.2f, \"median_s\": %.2f, \"longest_s\": %.2f, \"empty_looks\": %.3f, \"late_s\": %.2f}\n",
           load.whole, load.failed, (double)(now_ns() - load.start_ns) / NS, cpu_s, load.seconds[0],
           load.seconds[load.whole / 2], load.seconds[load.whole > 0 ? load.whole - 1 : 0],
           (double)load.empty / (double)load.looks, (double)load.late_ns / NS);
}

/* --- main --------------------------------------------------------------------------------------------------------- */

static bool parse_word(const char *name, const char *value)
{
    struct {
        const char *name;
        const char **text;
        uint64_t *number;
    } const known[] = {
        { "--host", &options.host, NULL }, { "--path", &options.path, NULL },
        { "--md5", &options.md5, NULL },   { "--port", NULL, &options.port },
        { "--size", NULL, &options.size }, { "--connections", NULL, &options.connections },
        { "--rate", NULL, &options.rate }, { "--opening", NULL, &options.opening },
        { "--mss", NULL, &options.mss },   { "--seconds-max", NULL, &options.seconds_max },
        { "--tls", NULL, &options.tls },
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(name, known[i].name) != 0) {
            continue;
        }
        if (known[i].text != NULL) {
            *known[i].text = value;
            return true;
        }
        char *rest;
        *known[i].number = strtoull(value, &rest, 10);
        return *rest == '\0' && *known[i].number > 0 && *known[i].number <= UINT32_MAX;
    }
    return false;
}

static bool parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 >= argc || !parse_word(argv[i], argv[i + 1])) {
            return false;
        }
    }
    if (options.port == 0 || options.port > 65535 || options.path == NULL || options.size == 0 || options.md5 == NULL ||
        strlen(options.md5) != 2 * MD5_BYTES || options.connections > 100000) {
        return false;
    }
    for (size_t i = 0; i < MD5_BYTES; i++) {
        char pair[3] = { options.md5[2 * i], options.md5[2 * i + 1], '\0' };
        load.md5[i] = (unsigned char)strtoul(pair, NULL, 16);
    }
    load.server = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)options.port) };
    load.request_bytes =
        snprintf(load.request, sizeof load.request,
                 "GET %s HTTP/1.0\r\nHost: %s:%" PRIu64 "\r\nUser-Agent: updraft-bench\r\nConnection: close\r\n\r\n",
                 options.path, options.host, options.port);
    return inet_pton(AF_INET, options.host, &load.server.sin_addr) == 1 &&
           load.request_bytes < (int)sizeof load.request;
}

static bool raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return false;
    }
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= options.connections + DESCRIPTORS_OWN) {
        return true;
    }
    (void)fprintf(stderr,
                  "slow_load: %" PRIu64 " connections need as many descriptors, and the limit is %" PRIu64
                  ": fewer --connections, or a higher hard limit (ulimit -Hn)\n",
                  options.connections, (uint64_t)limit.rlim_cur);
    return false;
}

int main(int argc, char **argv)
{
    if (!parse(argc, argv)) {
        (void)fprintf(stderr, "usage: slow_load --port P --path PATH --size BYTES --md5 HEX [--host IP] "
                              "[--connections N]\n       [--rate BYTES/S] [--opening N/S] [--mss BYTES] "
                              "[--seconds-max S] [--tls 12|13]\n");
        return 2;
    }
    load.all = calloc(options.connections, sizeof *load.all);
    load.seconds = calloc(options.connections, sizeof *load.seconds);
    if (load.all == NULL || load.seconds == NULL || !raise_descriptors() || (options.tls != 0 && !set_up_tls())) {
        return 1;
    }
    bool good = run();
    report();
    return good ? 0 : 1;
}
