/* OpenSSL is met here, in tls_trust.c and under stream_tls.h alone. What makes it hard: at a reload a bad file must
 * change nothing, so a new context is made whole before it takes the old one's place; and tickets are to outlive that.
 */
#include "server/tls_parts.h"

#include "base/text.h"

#include <assert.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CLIENT_CHAIN_BYTES_MAX (16 << 10) /* of a device's certificate and those behind it */

/* A handshake is done in one go, and its client chooses the group: those that cost milliseconds (OpenSSL has Diffie-
 * Hellman of 8192 bits among its own) are not for strangers. Every device and library has one of these. */
#define GROUPS "X25519:P-256:P-384:P-521"

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

enum status tls_complain(const char *flag, const char *file, const char *remedy, char *message, size_t size)
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

int64_t tls_seconds_of(const ASN1_TIME *time)
{
    struct tm tm;
    return time != NULL && ASN1_TIME_to_tm(time, &tm) == 1 ? timegm(&tm) : 0;
}

void tls_note_end(struct tls *tls, const X509 *certificate, const char *file)
{
    int64_t end_s = tls_seconds_of(X509_get0_notAfter(certificate));
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
    int64_t from_s = tls_seconds_of(X509_get0_notBefore(own)), until_s = tls_seconds_of(X509_get0_notAfter(own));
    tls->good_from_s = from_s > tls->good_from_s ? from_s : tls->good_from_s;
    tls->good_until_s = tls->good_until_s == 0 || until_s < tls->good_until_s ? until_s : tls->good_until_s;
    tls_note_end(tls, own, file);
    (void)SSL_CTX_get0_chain_certs(tls->context, &chain);
    for (int i = 0; i < sk_X509_num(chain); i++) {
        tls_note_end(tls, sk_X509_value(chain, i), file);
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
        return tls_complain("tls-cert", cert, "give a readable PEM file: the server's certificate, then its chain",
                            message, size);
    }
    kinds[at] = kind_of(tls->context);
    for (size_t i = 0; i < at; i++) {
        if (kinds[i] == kinds[at]) {
            ERR_raise(ERR_LIB_SSL, SSL_R_WRONG_CERTIFICATE_TYPE);
            return tls_complain("tls-cert", cert,
                                "there is one of this kind of key already: give one ECDSA and one RSA", message, size);
        }
    }
    if (SSL_CTX_use_PrivateKey_file(tls->context, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(tls->context) != 1) {
        return tls_complain(
            "tls-key", key,
            "give a readable PEM file with the key of that certificate, and no passphrase (openssl pkey -in "
            "KEY -out PLAIN)",
            message, size);
    }
    note_ends(tls, cert);
    return STATUS_OK;
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
    SSL_CTX_set_alpn_select_cb(context, on_protocols, NULL);
    if (SSL_CTX_set1_groups_list(context, groups) != 1) {
        return tls_complain("tls-cert", "", "this OpenSSL lacks curves: see `openssl ecparam -list_curves`", message,
                            size);
    }
    if (SSL_CTX_set_max_send_fragment(context, (long)settings->record_bytes) != 1) {
        return tls_complain("tls-record-size", "", "give 512 to 16384", message, size);
    }
    if (SSL_CTX_set_cipher_list(context, settings->ciphers) != 1) {
        return tls_complain("tls-ciphers", settings->ciphers,
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
    status = settings->count == 0 ? tls_complain("tls-cert", "", "TLS needs a certificate", message, size)
                                  : set_up(made, settings, message, size);
    for (size_t i = 0; i < settings->count && status == STATUS_OK; i++) {
        status = load_pair(made, settings->certs[i], settings->keys[i], kinds, i, message, size);
        if (status == STATUS_OK && before != NULL && is_good_today(before) && !is_good_today(made)) {
            snprintf(message, size, "--tls-cert %s: its time is over, or has not begun: give one that is good today",
                     settings->certs[i]);
            status = STATUS_INVALID;
        }
    }
    status = status == STATUS_OK ? tls_trust_load(made, settings, message, size) : status;
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
