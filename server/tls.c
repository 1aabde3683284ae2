/* OpenSSL is met here and in stream_tls.c alone. What makes it hard: at a reload a bad file must change nothing, so a
 * new context is made whole before it takes the old one's place; and tickets are to outlive that, but not a change of
 * whom we trust. */
#include "server/tls.h"

#include "base/text.h"

#include <assert.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CLIENT_CHAIN_BYTES_MAX    (16 << 10) /* of a device's certificate and those behind it */
#define AUTHORITY_NAMES_BYTES_MAX (4 << 10)

/* A handshake is done in one go, and its client chooses the group: those that cost milliseconds (OpenSSL has Diffie-
 * Hellman of 8192 bits among its own) are not for strangers. Every device and library has one of these. */
#define GROUPS "X25519:P-256:P-384:P-521"

struct ticket_key {
    unsigned char name[16], cipher[32], mac[32];
};

struct tls { /* its context's: gone with it, when the last connection that began with it is */
    SSL_CTX *context;
    unsigned char bond[SSL_MAX_SID_CTX_LENGTH]; /* of sessions: to whom we trust, and with which ciphers */
    int64_t trust_ends_s;                       /* the first of what devices' certificates are judged by; 0 = never */
    struct ticket_key now, before;              /* `before` opens tickets, and has them made anew */
    int64_t made_s;                             /* `now` */
    int64_t good_from_s, good_until_s;          /* all of ours */
    int64_t not_after_s;
    char not_after_file[1024];
};

const char *tls_handshake_word(enum tls_handshake handshake)
{
    static const char *const words[] = {
#define X(name, word) word,
        TLS_HANDSHAKE_LIST(X)
#undef X
    };
    assert(handshake < TLS_HANDSHAKE_COUNT);
    return words[handshake];
}

/* --- its life ----------------------------------------------------------------------------------------------------- */

static void on_context_free(void *parent, void *pointer, CRYPTO_EX_DATA *data, int index, long argl, void *argp)
{
    (void)parent, (void)data, (void)index, (void)argl, (void)argp;
    if (pointer != NULL) {
        OPENSSL_cleanse(pointer, sizeof(struct tls));
        free(pointer);
    }
}

static int tls_index(void)
{
    static int index = -1;
    if (index < 0) {
        index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, on_context_free);
    }
    return index;
}

void tls_free(struct tls *tls)
{
    if (tls != NULL) {
        SSL_CTX_free(tls->context);
    }
}

SSL *tls_accept(const struct tls *tls)
{
    SSL *ssl = SSL_new(tls->context);
    if (ssl != NULL) {
        SSL_set_accept_state(ssl);
    }
    return ssl;
}

int64_t tls_not_after(const struct tls *tls, const char **file)
{
    *file = tls->not_after_file;
    return tls->not_after_s;
}

/* --- complaints --------------------------------------------------------------------------------------------------- */

static enum status complain(const char *flag, const char *file, const char *remedy, char *message, size_t size)
{
    const char *why = "cannot be used";
    unsigned long code;
    bool is_system = false;
    /* From the lowest floor upwards: each says more, but those that say only which floor was below them. */
    while ((code = ERR_get_error()) != 0) {
        const char *text = ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
        if (text != NULL && !is_system && !slice_ends_with(slice_of(text), " lib")) {
            why = text;
            is_system = ERR_SYSTEM_ERROR(code);
        }
    }
    snprintf(message, size, "--%s%s%s: %s: %s", flag, file[0] != '\0' ? " " : "", file, why, remedy);
    return STATUS_INVALID;
}

/* --- tickets ------------------------------------------------------------------------------------------------------ */

static bool make_key(struct tls *tls, int64_t now_s)
{
    tls->before = tls->now;
    tls->made_s = now_s;
    return RAND_bytes((unsigned char *)&tls->now, sizeof tls->now) == 1;
}

void tls_rotate(struct tls *tls, int64_t now_s)
{
    if (now_s - tls->made_s >= TLS_TICKET_KEY_S || now_s < tls->made_s) {
        (void)make_key(tls, now_s);
    }
}

/* 1 = good; 2 = good, and a new ticket is to be made; 0 = unknown key: a full handshake. */
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
                     int encrypt)
{
    const struct tls *tls = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), tls_index());
    const struct ticket_key *key = &tls->now;
    if (!encrypt && tls->trust_ends_s != 0 && time(NULL) >= tls->trust_ends_s) {
        return 0; /* tickets are made anew each time: without this they would never be judged by it */
    }
    if (encrypt) {
        memcpy(name, key->name, sizeof key->name);
        if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1) {
            return -1;
        }
    } else if (memcmp(name, key->name, sizeof key->name) != 0) {
        key = &tls->before;
        if (memcmp(name, key->name, sizeof key->name) != 0) {
            return 0;
        }
    }
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)(uintptr_t)key->mac, sizeof key->mac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    if (EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->cipher, iv, encrypt) != 1 ||
        EVP_MAC_CTX_set_params(mac, params) != 1) {
        return -1;
    }
    return !encrypt && key != &tls->now ? 2 : 1;
}

/* --- certificates ------------------------------------------------------------------------------------------------- */

/* A key with a passphrase would have OpenSSL ask for it at the terminal, and wait. */
static int on_passphrase(char *to, int size, int writes, void *owner)
{
    (void)to, (void)size, (void)writes, (void)owner;
    return 0;
}

/* Unix seconds, or 0 where there is none. */
static int64_t seconds_of(const ASN1_TIME *time)
{
    struct tm tm;
    return time != NULL && ASN1_TIME_to_tm(time, &tm) == 1 ? timegm(&tm) : 0;
}

static void note_end(struct tls *tls, const X509 *certificate, const char *file)
{
    int64_t end_s = seconds_of(X509_get0_notAfter(certificate));
    if (end_s != 0 && (tls->not_after_s == 0 || end_s < tls->not_after_s)) {
        tls->not_after_s = end_s;
        snprintf(tls->not_after_file, sizeof tls->not_after_file, "%s", file);
    }
}

/* Ours, and those of the authorities behind it: devices refuse it as well when one of these is over. */
static void note_ends(struct tls *tls, const char *file)
{
    STACK_OF(X509) *chain = NULL;
    const X509 *own = SSL_CTX_get0_certificate(tls->context);
    int64_t from_s = seconds_of(X509_get0_notBefore(own)), until_s = seconds_of(X509_get0_notAfter(own));
    tls->good_from_s = from_s > tls->good_from_s ? from_s : tls->good_from_s;
    tls->good_until_s = tls->good_until_s == 0 || until_s < tls->good_until_s ? until_s : tls->good_until_s;
    note_end(tls, own, file);
    (void)SSL_CTX_get0_chain_certs(tls->context, &chain);
    for (int i = 0; i < sk_X509_num(chain); i++) {
        note_end(tls, sk_X509_value(chain, i), file);
    }
}

static int kind_of(SSL_CTX *context)
{
    X509 *certificate = SSL_CTX_get0_certificate(context);
    EVP_PKEY *key = certificate != NULL ? X509_get0_pubkey(certificate) : NULL;
    return key != NULL ? EVP_PKEY_get_base_id(key) : EVP_PKEY_NONE;
}

static bool is_good_today(const struct tls *tls)
{
    int64_t now_s = time(NULL);
    return tls->good_from_s <= now_s && now_s < tls->good_until_s;
}

static enum status load_pair(struct tls *tls, const char *cert, const char *key, int kinds[], size_t at, char *message,
                             size_t size)
{
    if (SSL_CTX_use_certificate_chain_file(tls->context, cert) != 1) {
        return complain("tls-cert", cert, "give a readable PEM file: the server's certificate, then its chain", message,
                        size);
    }
    kinds[at] = kind_of(tls->context);
    for (size_t i = 0; i < at; i++) {
        if (kinds[i] == kinds[at]) {
            ERR_raise(ERR_LIB_SSL, SSL_R_WRONG_CERTIFICATE_TYPE);
            return complain("tls-cert", cert, "there is one of this kind of key already: give one ECDSA and one RSA",
                            message, size);
        }
    }
    if (SSL_CTX_use_PrivateKey_file(tls->context, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(tls->context) != 1) {
        return complain(
            "tls-key", key,
            "give a readable PEM file with the key of that certificate, and no passphrase (openssl pkey -in "
            "KEY -out PLAIN)",
            message, size);
    }
    note_ends(tls, cert);
    return STATUS_OK;
}

/* --- clients' certificates ---------------------------------------------------------------------------------------- */

/* Read once, so that what is trusted and what sessions are bound to cannot be two. Returns NULL with an error queued.
 */
static BIO *read_whole(const char *name)
{
    char piece[4096];
    BIO *file = BIO_new_file(name, "r"), *bytes = BIO_new(BIO_s_mem());
    int n = file != NULL && bytes != NULL ? 1 : -1;
    while (n > 0) {
        n = BIO_read(file, piece, sizeof piece);
        n = n > 0 && BIO_write(bytes, piece, n) != n ? -1 : n;
    }
    BIO_free(file);
    if (n < 0) {
        BIO_free(bytes);
        return NULL;
    }
    return bytes;
}

/* A session of somebody who was trusted by others than now, or spoke with ciphers that are no longer taken, is not
 * resumed. */
static bool bind_sessions(struct tls *tls, const struct tls_settings *settings, BIO *bytes)
{
    unsigned char trust[EVP_MAX_MD_SIZE], ciphers[EVP_MAX_MD_SIZE];
    const char *at = "";
    size_t n = bytes != NULL ? (size_t)BIO_get_mem_data(bytes, &at) : 0;
    if (EVP_Digest(at, n, trust, NULL, EVP_sha256(), NULL) != 1 ||
        EVP_Digest(settings->ciphers, strlen(settings->ciphers), ciphers, NULL, EVP_sha256(), NULL) != 1) {
        return false;
    }
    for (size_t i = 0; i < sizeof tls->bond; i++) {
        tls->bond[i] = trust[i] ^ ciphers[i];
    }
    tls->bond[0] ^= (unsigned char)settings->client;
    return true;
}

static void note_trust_end(struct tls *tls, int64_t end_s)
{
    if (end_s != 0 && end_s <= time(NULL)) {
        tls->bond[2]++; /* what it vouched for before ends here; it must not end the tickets of all others, for ever */
    } else if (end_s != 0 && (tls->trust_ends_s == 0 || end_s < tls->trust_ends_s)) {
        tls->trust_ends_s = end_s;
    }
}

/* An authority, or a device's own. */
static bool trust_certificate(struct tls *tls, X509 *certificate, const char *file)
{
    if (X509_check_ca(certificate) != 0) {
        note_end(tls, certificate, file);
        note_trust_end(tls, seconds_of(X509_get0_notAfter(certificate)));
    }
    return X509_STORE_add_cert(SSL_CTX_get_cert_store(tls->context), certificate) == 1;
}

/* A list of those revoked is looked into where there is any. */
static bool trust_list(struct tls *tls, X509_CRL *list)
{
    X509_STORE *store = SSL_CTX_get_cert_store(tls->context);
    note_trust_end(tls, seconds_of(X509_CRL_get0_nextUpdate(list)));
    return X509_STORE_add_crl(store, list) == 1 && X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK) == 1;
}

/* Handshakes name the authorities, which helps browsers to choose; but no list of devices, which could be longer than
 * a handshake can say, and each radio would have to hear it. */
static bool name_authorities(SSL_CTX *context, const STACK_OF(X509_INFO) * found)
{
    size_t bytes = 0;
    bool good = true;
    for (int i = 0; good && i < sk_X509_INFO_num(found); i++) {
        X509 *certificate = sk_X509_INFO_value(found, i)->x509;
        if (certificate == NULL) {
            continue;
        }
        int n = i2d_X509_NAME(X509_get_subject_name(certificate), NULL);
        bytes += n > 0 ? (size_t)n : 0;
        if (X509_check_ca(certificate) == 0 || bytes > AUTHORITY_NAMES_BYTES_MAX) {
            SSL_CTX_set_client_CA_list(context, sk_X509_NAME_new_null()); /* any may be shown */
            break;
        }
        good = SSL_CTX_add_client_CA(context, certificate) == 1;
    }
    return good;
}

static bool trust(struct tls *tls, BIO *bytes, const char *file, bool *is_empty)
{
    STACK_OF(X509_INFO) *found = PEM_X509_INFO_read_bio(bytes, NULL, on_passphrase, NULL);
    bool good = found != NULL && name_authorities(tls->context, found), any = false;
    for (int i = 0; good && i < sk_X509_INFO_num(found); i++) {
        const X509_INFO *info = sk_X509_INFO_value(found, i);
        any = any || info->x509 != NULL;
        good = (info->x509 == NULL || trust_certificate(tls, info->x509, file)) &&
               (info->crl == NULL || trust_list(tls, info->crl));
    }
    sk_X509_INFO_pop_free(found, X509_INFO_free);
    if (good && !any) {
        *is_empty = true;
    }
    return good && any;
}

static enum status load_client_ca(struct tls *tls, const struct tls_settings *settings, char *message, size_t size)
{
    bool asks = settings->client != TLS_CLIENT_NONE;
    BIO *bytes = asks ? read_whole(settings->client_ca) : NULL;
    bool is_empty = false;
    bool good = (!asks || bytes != NULL) && bind_sessions(tls, settings, bytes) &&
                (!asks || trust(tls, bytes, settings->client_ca, &is_empty));
    BIO_free(bytes);
    if (!good) {
        static const char remedy[] =
            "give a readable PEM file: authorities whose certificates devices may show, or the devices' own";
        if (is_empty) {
            snprintf(message, size, "--tls-client-ca %s: there is no certificate in it: %s", settings->client_ca,
                     remedy);
            return STATUS_INVALID;
        }
        return complain("tls-client-ca", settings->client_ca, remedy, message, size);
    }
    if (asks) {
        /* A device's own certificate may stand in the file, whoever signed it: taken out of it, it is refused. */
        X509_STORE_set_flags(SSL_CTX_get_cert_store(tls->context), X509_V_FLAG_PARTIAL_CHAIN);
        SSL_CTX_set_verify(
            tls->context,
            SSL_VERIFY_PEER | (settings->client == TLS_CLIENT_REQUIRED ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), NULL);
    }
    return STATUS_OK;
}

/* --- sessions ----------------------------------------------------------------------------------------------------- */

/* Records have a size for as long as their session lives (RFC 6066), and OpenSSL refuses whoever would resume it with
 * another: so sessions are bound to that, too, and such a one is not found. */
static int on_hello(SSL *ssl, int *alert, void *owner)
{
    const struct tls *tls = owner;
    unsigned char bond[sizeof tls->bond];
    const unsigned char *length;
    size_t n;
    (void)alert;
    memcpy(bond, tls->bond, sizeof bond);
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_max_fragment_length, &length, &n) == 1 && n == 1) {
        bond[1] ^= length[0];
    }
    return SSL_set_session_id_context(ssl, bond, sizeof bond) == 1 ? SSL_CLIENT_HELLO_SUCCESS : SSL_CLIENT_HELLO_ERROR;
}

/* --- protocols ---------------------------------------------------------------------------------------------------- */

static int on_protocols(SSL *ssl, const unsigned char **chosen, unsigned char *chosen_bytes,
                        const unsigned char *offered, unsigned offered_bytes, void *owner)
{
    static const unsigned char ours[] = "\x08http/1.1\x08http/1.0";
    unsigned char *found;
    (void)ssl, (void)owner;
    if (SSL_select_next_proto(&found, chosen_bytes, ours, sizeof ours - 1, offered, offered_bytes) !=
        OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL; /* RFC 7301: whoever speaks only others would not understand us */
    }
    *chosen = found;
    return SSL_TLSEXT_ERR_OK;
}

static enum status set_up(struct tls *tls, const struct tls_settings *settings, char *message, size_t size)
{
    SSL_CTX *context = tls->context;
    char groups[] = GROUPS;
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                     SSL_OP_PRIORITIZE_CHACHA | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_default_passwd_cb(context, on_passphrase);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_SERVER);
    SSL_CTX_sess_set_cache_size(context, TLS_SESSIONS_MAX);
    SSL_CTX_set_timeout(context, 2L * TLS_TICKET_KEY_S);
    SSL_CTX_set_num_tickets(context, 1);
    SSL_CTX_set_max_cert_list(context, CLIENT_CHAIN_BYTES_MAX);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(context, on_ticket);
    SSL_CTX_set_client_hello_cb(context, on_hello, tls);
    SSL_CTX_set_alpn_select_cb(context, on_protocols, NULL);
    if (SSL_CTX_set1_groups_list(context, groups) != 1) {
        return complain("tls-cert", "", "this OpenSSL lacks curves: see `openssl ecparam -list_curves`", message, size);
    }
    if (SSL_CTX_set_max_send_fragment(context, (long)settings->record_bytes) != 1) {
        return complain("tls-record-size", "", "give 512 to 16384", message, size);
    }
    if (SSL_CTX_set_cipher_list(context, settings->ciphers) != 1) {
        return complain("tls-ciphers", settings->ciphers,
                        "see openssl-ciphers(1), and `openssl ciphers -s -tls1_2 LIST`", message, size);
    }
    return STATUS_OK;
}

enum status tls_load(const struct tls_settings *settings, const struct tls *before, struct tls **tls, char *message,
                     size_t size)
{
    struct tls *made = calloc(1, sizeof *made);
    int kinds[TLS_CERTS_MAX] = { 0 };
    enum status status = STATUS_OK;
    ERR_clear_error();
    if (made == NULL || (made->context = SSL_CTX_new(TLS_server_method())) == NULL ||
        SSL_CTX_set_ex_data(made->context, tls_index(), made) != 1) {
        snprintf(message, size, "TLS: memory is short");
        if (made != NULL) {
            SSL_CTX_free(made->context);
        }
        free(made);
        return STATUS_NO_MEMORY;
    }
    status = settings->count == 0 ? complain("tls-cert", "", "TLS needs a certificate", message, size)
                                  : set_up(made, settings, message, size);
    for (size_t i = 0; i < settings->count && status == STATUS_OK; i++) {
        status = load_pair(made, settings->certs[i], settings->keys[i], kinds, i, message, size);
        if (status == STATUS_OK && before != NULL && is_good_today(before) && !is_good_today(made)) {
            snprintf(message, size, "--tls-cert %s: its time is over, or has not begun: give one that is good today",
                     settings->certs[i]);
            status = STATUS_INVALID;
        }
    }
    status = status == STATUS_OK ? load_client_ca(made, settings, message, size) : status;
    bool keyed = true; /* with two: the one before is nobody's */
    for (int i = 0; i < 2; i++) {
        keyed = make_key(made, time(NULL)) && keyed;
    }
    if (status == STATUS_OK && !keyed) {
        snprintf(message, size, "TLS: the system gives no random numbers");
        status = STATUS_IO;
    }
    if (status != STATUS_OK) {
        tls_free(made);
        return status;
    }
    if (before != NULL) {
        made->now = before->now;
        made->before = before->before;
        made->made_s = before->made_s;
    }
    *tls = made;
    return STATUS_OK;
}
