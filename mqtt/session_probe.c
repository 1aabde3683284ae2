/* A short conversation with the broker, and what to tell people when it fails. What makes it hard: every step may
 * hang, so each waits in slices and looks whether the session ends meanwhile; name resolution alone cannot. */
#include "mqtt/session_probe.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SLICE_MS         50
#define CONNACK_HEAD     4   /* type, remaining length, flags, code */
#define CONNACK_REST_MAX 127 /* of one byte; a second one shifts flags and code. What follows them does not matter */

struct conversation {
    const struct session_settings *settings;
    enum session_version version;
    const atomic_bool *stop;
    uint64_t deadline_ns;
    int fd;
    SSL_CTX *context;
    SSL *ssl;
    char *error;
};

/* --- what to tell people ----------------------------------------------------------------------------------------- */

#define SAY(talk, ...) ((void)snprintf((talk)->error, SESSION_ERROR_MAX, __VA_ARGS__))

struct refusal {
    int code;
    const char *text;
};

/* MQTT 3.1.1, 3.2.2.3; MQTT 5, 3.2.2.2. */
static const struct refusal refusals_3_1_1[] = {
    { 1, "does not speak MQTT 3.1.1: set mqtt-version to 5" },
    { 2, "does not accept the client id: set another one" },
    { 3, "says that it is unavailable: look at its log" },
    { 4, "refuses user or password: check mqtt-user and mqtt-password" },
    { 5, "refuses user or password, or wants one: check mqtt-user and mqtt-password" },
};
static const struct refusal refusals_5[] = {
    { 0x84, "does not speak MQTT 5: set mqtt-version to 3.1.1 or auto" },
    { 0x85, "does not accept the client id: set another one" },
    { 0x86, "refuses user or password: check mqtt-user and mqtt-password" },
    { 0x87, "refuses user or password, or wants one: check mqtt-user and mqtt-password" },
    { 0x88, "says that it is unavailable: look at its log" },
    { 0x89, "says that it is busy: it is tried again" },
    { 0x8a, "has banned this client: look at its log" },
    { 0x95, "finds our packets too large: raise its limit" },
    { 0x97, "says that a quota is used up: look at its log" },
    { 0x9a, "does not retain messages, which the online topic needs" },
    { 0x9b, "does not take QoS 1, which commands need" },
    { 0x9c, "names another broker to use: change mqtt" },
    { 0x9d, "has moved: change mqtt" },
    { 0x9f, "says that we connect too often: it is tried again" },
};

void session_refusal(const struct session_settings *settings, enum session_version version, int code,
                     char error[SESSION_ERROR_MAX])
{
    bool five = version == SESSION_VERSION_5;
    const struct refusal *refusals = five ? refusals_5 : refusals_3_1_1;
    size_t n = five ? sizeof refusals_5 / sizeof refusals_5[0] : sizeof refusals_3_1_1 / sizeof refusals_3_1_1[0];
    for (size_t i = 0; i < n; i++) {
        if (refusals[i].code == code) {
            snprintf(error, SESSION_ERROR_MAX, "the broker %s %s", settings->address, refusals[i].text);
            return;
        }
    }
    snprintf(error, SESSION_ERROR_MAX, "the broker %s refuses the connection with code %d: look at its log",
             settings->address, code);
}

static enum probe_result say_errno(struct conversation *talk, int error)
{
    const char *address = talk->settings->address;
    if (error == ECONNREFUSED) {
        SAY(talk, "connection refused by %s: is the broker running, and is the port right?", address);
    } else if (error == ETIMEDOUT) {
        SAY(talk, "%s does not answer: check the address, the network and its firewall", address);
    } else {
        SAY(talk, "no connection to %s (%s): check the address and the network", address, strerror(error));
    }
    return PROBE_FAILED;
}

static enum probe_result say_silent(struct conversation *talk)
{
    SAY(talk, "%s takes connections, but does not answer as an MQTT broker: timed out; is its port %s?",
        talk->settings->address, talk->settings->tls ? "one for TLS" : "one for TLS (mqtts://), and does it run");
    return PROBE_FAILED;
}

static enum probe_result say_closed(struct conversation *talk)
{
    SAY(talk, "%s closed the connection without an answer: %s; look at its log", talk->settings->address,
        talk->settings->tls ? "is its port one for TLS, and does it want a client certificate (mqtt-cert)?"
                            : "is its port one for TLS (mqtts://)?");
    return PROBE_CLOSED;
}

/* What OpenSSL found wrong with the broker's certificate. */
static enum probe_result say_certificate(struct conversation *talk, long verdict)
{
    const char *address = talk->settings->address;
    const char *reason = X509_verify_cert_error_string(verdict);
    switch (verdict) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        SAY(talk, "the certificate of %s has expired: renew it, or set this machine's clock", address);
        break;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        SAY(talk, "the certificate of %s is not valid yet: set this machine's clock", address);
        break;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        SAY(talk, "the certificate of %s is made out to another name (%s): put the certificate's name into mqtt",
            address, reason);
        break;
    default:
        SAY(talk, "the certificate of %s does not match the CA (%s): give the CA that signed it with mqtt-ca", address,
            reason);
    }
    return PROBE_FAILED;
}

/* --- waiting ----------------------------------------------------------------------------------------------------- */

/* 0 when ready, else ETIMEDOUT or, when the session ends, ECANCELED. */
static int wait_for(struct conversation *talk, short events)
{
    for (;;) {
        if (atomic_load(talk->stop)) {
            return ECANCELED;
        }
        if (uv_hrtime() >= talk->deadline_ns) {
            return ETIMEDOUT;
        }
        struct pollfd ready = { .fd = talk->fd, .events = events };
        if (poll(&ready, 1, SLICE_MS) > 0) {
            return 0;
        }
    }
}

/* --- the steps, each PROBE_ACCEPTED when the next may follow ----------------------------------------------------- */

/* The address that Paho would take: the first IPv4 one, else the last (Socket.c, Socket_new). */
static const struct addrinfo *choose_address(const struct addrinfo *found)
{
    while (found->ai_family != AF_INET && found->ai_next != NULL) {
        found = found->ai_next;
    }
    return found;
}

static enum probe_result reach(struct conversation *talk)
{
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
    struct addrinfo *found = NULL;
    char port[8];
    snprintf(port, sizeof port, "%u", (unsigned)talk->settings->port);
    int error = getaddrinfo(talk->settings->host, port, &hints, &found);
    if (error != 0) {
        SAY(talk, "the name of the broker, %s, does not resolve (%s): check mqtt and the name server",
            talk->settings->host, gai_strerror(error));
        return PROBE_FAILED;
    }
    const struct addrinfo *address = choose_address(found);
    talk->deadline_ns = uv_hrtime() + talk->settings->connect_timeout_ms * 1000000;
    talk->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    error = talk->fd < 0 || connect(talk->fd, address->ai_addr, address->ai_addrlen) != 0 ? errno : 0;
    freeaddrinfo(found);
    if (error == EINPROGRESS && (error = wait_for(talk, POLLOUT)) == 0) {
        socklen_t size = sizeof error;
        if (getsockopt(talk->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
            error = errno;
        }
    }
    return error == 0 ? PROBE_ACCEPTED : say_errno(talk, error);
}

static const char *ssl_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    return reason != NULL ? reason : "no reason given";
}

static enum probe_result say_file(struct conversation *talk, const char *key, const char *file)
{
    SAY(talk, "%s = %.60s cannot be used (%s): it must be a readable PEM file", key, file, ssl_reason());
    return PROBE_FAILED;
}

static enum probe_result load_tls_files(struct conversation *talk)
{
    const struct session_settings *settings = talk->settings;
    const char *key_file = settings->key_file[0] != '\0' ? settings->key_file : settings->cert_file;
    if (settings->ca_file[0] == '\0') {
        SSL_CTX_set_default_verify_paths(talk->context);
    } else if (SSL_CTX_load_verify_locations(talk->context, settings->ca_file, NULL) != 1) {
        return say_file(talk, "mqtt-ca", settings->ca_file);
    }
    if (settings->cert_file[0] == '\0') {
        return PROBE_ACCEPTED;
    }
    if (SSL_CTX_use_certificate_chain_file(talk->context, settings->cert_file) != 1) {
        return say_file(talk, "mqtt-cert", settings->cert_file);
    }
    if (SSL_CTX_use_PrivateKey_file(talk->context, key_file, SSL_FILETYPE_PEM) != 1) {
        return say_file(talk, "mqtt-key", key_file);
    }
    return PROBE_ACCEPTED;
}

static void expect_name(struct conversation *talk)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(talk->ssl);
    if (X509_VERIFY_PARAM_set1_ip_asc(param, talk->settings->host) != 1) { /* no address: a name */
        SSL_set1_host(talk->ssl, talk->settings->host);
        SSL_set_tlsext_host_name(talk->ssl, talk->settings->host);
    }
}

/* Why a TLS call came to nothing, once it is clear that it did. */
static enum probe_result say_tls(struct conversation *talk, int ssl_error)
{
    long verdict = SSL_get_verify_result(talk->ssl);
    unsigned long error = ERR_peek_last_error();
    int reason = ERR_GET_REASON(error);
    if (verdict != X509_V_OK) {
        return say_certificate(talk, verdict);
    }
    if (ssl_error == SSL_ERROR_SYSCALL || ssl_error == SSL_ERROR_ZERO_RETURN || error == 0 ||
        reason == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
        return say_closed(talk);
    }
    if (reason == SSL_R_WRONG_VERSION_NUMBER) {
        SAY(talk, "%s does not speak TLS: use its TLS port, or mqtt:// instead of mqtts://", talk->settings->address);
    } else if (reason > SSL_AD_REASON_OFFSET) { /* an alert of the broker's: it does not like us */
        SAY(talk, "%s refuses our TLS (%s): does it demand a client certificate (mqtt-cert, mqtt-key)?",
            talk->settings->address, ssl_reason());
    } else {
        SAY(talk, "TLS with %s failed: %s", talk->settings->address, ssl_reason());
    }
    return PROBE_FAILED;
}

/* After an SSL call returned `rc`: waits until it is worth repeating. PROBE_ACCEPTED = repeat it. */
static enum probe_result ssl_again(struct conversation *talk, int rc)
{
    int ssl_error = SSL_get_error(talk->ssl, rc);
    if (ssl_error != SSL_ERROR_WANT_READ && ssl_error != SSL_ERROR_WANT_WRITE) {
        return say_tls(talk, ssl_error);
    }
    return wait_for(talk, ssl_error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT) == 0 ? PROBE_ACCEPTED : say_silent(talk);
}

static enum probe_result secure(struct conversation *talk)
{
    if (!talk->settings->tls) {
        return PROBE_ACCEPTED;
    }
    ERR_clear_error();
    talk->context = SSL_CTX_new(TLS_client_method());
    assert(talk->context != NULL);
    SSL_CTX_set_verify(talk->context, SSL_VERIFY_PEER, NULL);
    enum probe_result result = load_tls_files(talk);
    if (result != PROBE_ACCEPTED) {
        return result;
    }
    talk->ssl = SSL_new(talk->context);
    assert(talk->ssl != NULL);
    SSL_set_fd(talk->ssl, talk->fd);
    expect_name(talk);
    for (int rc; (rc = SSL_connect(talk->ssl)) != 1;) {
        if ((result = ssl_again(talk, rc)) != PROBE_ACCEPTED) {
            return result;
        }
    }
    return PROBE_ACCEPTED;
}

static enum probe_result send_all(struct conversation *talk, const uint8_t *bytes, size_t n)
{
    enum probe_result result = PROBE_ACCEPTED;
    while (n > 0 && result == PROBE_ACCEPTED) {
        ssize_t sent = talk->ssl != NULL ? SSL_write(talk->ssl, bytes, (int)n) : send(talk->fd, bytes, n, MSG_NOSIGNAL);
        if (sent > 0) {
            bytes += sent;
            n -= (size_t)sent;
        } else if (talk->ssl != NULL) {
            result = ssl_again(talk, (int)sent);
        } else if (errno == EAGAIN || errno == EINTR) {
            result = wait_for(talk, POLLOUT) == 0 ? PROBE_ACCEPTED : say_silent(talk);
        } else {
            result = say_closed(talk);
        }
    }
    return result;
}

static enum probe_result receive_all(struct conversation *talk, uint8_t *bytes, size_t n)
{
    enum probe_result result = PROBE_ACCEPTED;
    while (n > 0 && result == PROBE_ACCEPTED) {
        ssize_t got = talk->ssl != NULL ? SSL_read(talk->ssl, bytes, (int)n) : recv(talk->fd, bytes, n, 0);
        if (got > 0) {
            bytes += got;
            n -= (size_t)got;
        } else if (talk->ssl != NULL) {
            result = ssl_again(talk, (int)got);
        } else if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
            result = wait_for(talk, POLLIN) == 0 ? PROBE_ACCEPTED : say_silent(talk);
        } else {
            result = say_closed(talk);
        }
    }
    return result;
}

static uint8_t *put_string(uint8_t *at, const char *text)
{
    size_t n = strlen(text);
    *at++ = (uint8_t)(n >> 8);
    *at++ = (uint8_t)n;
    memcpy(at, text, n);
    return at + n;
}

/* CONNECT (MQTT 3.1.1 and 5, 3.1) with a clean session, no will and no properties. */
static enum probe_result introduce(struct conversation *talk)
{
    const struct session_settings *settings = talk->settings;
    bool five = talk->version == SESSION_VERSION_5;
    bool user = settings->user[0] != '\0', password = user && settings->password[0] != '\0';
    size_t rest = 10 + five + 2 + strlen(settings->client_id) + (user ? 2 + strlen(settings->user) : 0) +
                  (password ? 2 + strlen(settings->password) : 0);
    uint8_t *packet = malloc(5 + rest);
    assert(packet != NULL);
    uint8_t *at = packet;
    *at++ = 0x10;
    for (size_t left = rest; left > 0; left >>= 7) {
        *at++ = (uint8_t)((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
    }
    at = put_string(at, "MQTT");
    *at++ = five ? 5 : 4;
    *at++ = (uint8_t)(0x02 | (user ? 0x80 : 0) | (password ? 0x40 : 0));
    *at++ = (uint8_t)(settings->keep_alive_s >> 8);
    *at++ = (uint8_t)settings->keep_alive_s;
    if (five) {
        *at++ = 0; /* no properties */
    }
    at = put_string(at, settings->client_id);
    at = user ? put_string(at, settings->user) : at;
    at = password ? put_string(at, settings->password) : at;
    enum probe_result result = send_all(talk, packet, (size_t)(at - packet));
    OPENSSL_cleanse(packet, 5 + rest);
    free(packet);
    return result;
}

size_t session_connack_bytes(const uint8_t *head)
{
    return head[0] == 0x20 && head[1] > CONNACK_REST_MAX ? SESSION_CONNACK_MAX : CONNACK_HEAD;
}

enum probe_result session_connack(const struct session_settings *settings, enum session_version version,
                                  const uint8_t *bytes, char error[SESSION_ERROR_MAX])
{
    bool five = version == SESSION_VERSION_5;
    if (bytes[0] != 0x20 || bytes[1] < 2 || (!five && bytes[1] != 2)) {
        snprintf(error, SESSION_ERROR_MAX, "%s answers, but not as an MQTT broker: is the port right?",
                 settings->address);
        return PROBE_FAILED;
    }
    uint8_t code = bytes[session_connack_bytes(bytes) - 1];
    if (five && (bytes[1] == 2 || code == 0x84)) { /* version 5 has a length of properties, always */
        session_refusal(settings, SESSION_VERSION_5, 0x84, error);
        return PROBE_OTHER_VERSION;
    }
    if (code != 0) {
        session_refusal(settings, version, code, error);
        return !five && code == 1 ? PROBE_OTHER_VERSION : PROBE_FAILED;
    }
    return PROBE_ACCEPTED;
}

static enum probe_result hear(struct conversation *talk)
{
    static const uint8_t disconnect[] = { 0xe0, 0 };
    uint8_t bytes[SESSION_CONNACK_MAX];
    enum probe_result result = receive_all(talk, bytes, CONNACK_HEAD);
    if (result == PROBE_ACCEPTED) {
        result = receive_all(talk, bytes + CONNACK_HEAD, session_connack_bytes(bytes) - CONNACK_HEAD);
    }
    if (result == PROBE_ACCEPTED) {
        result = session_connack(talk->settings, talk->version, bytes, talk->error);
    }
    if (result == PROBE_ACCEPTED) {
        (void)send_all(talk, disconnect, sizeof disconnect);
    }
    return result;
}

enum probe_result session_probe(const struct session_settings *settings, enum session_version version,
                                const atomic_bool *stop, char error[SESSION_ERROR_MAX])
{
    static enum probe_result (*const steps[])(struct conversation *) = { reach, secure, introduce, hear };
    struct conversation talk = { .settings = settings, .version = version, .stop = stop, .fd = -1, .error = error };
    enum probe_result result = PROBE_ACCEPTED;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0] && result == PROBE_ACCEPTED; i++) {
        result = steps[i](&talk);
    }
    if (talk.ssl != NULL && result == PROBE_ACCEPTED) {
        SSL_shutdown(talk.ssl);
    }
    SSL_free(talk.ssl);
    SSL_CTX_free(talk.context);
    ERR_clear_error();
    if (talk.fd >= 0) {
        close(talk.fd);
    }
    return result;
}
