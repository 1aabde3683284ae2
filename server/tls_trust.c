/* Whom we trust to vouch for devices, and for how long. What makes it hard: only a whole handshake judges by it, while
 * sessions are resumed, made anew each time, and connections are kept for as long as somebody asks. So all of these are
 * bound to what they were judged by (struct tls_bond), and end when that does.
 */
#include "server/tls_parts.h"

#include <assert.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define AUTHORITY_NAMES_BYTES_MAX (4 << 10)

_Static_assert(sizeof(struct tls_bond) == SSL_MAX_SID_CTX_LENGTH, "it is compared byte by byte: without holes");

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
    for (size_t i = 0; i < sizeof tls->bond.trust; i++) {
        tls->bond.trust[i] = trust[i] ^ ciphers[i];
    }
    tls->bond.trust[0] ^= (unsigned char)settings->client;
    return true;
}

/* An authority, or a device's own. */
static bool trust_certificate(struct tls *tls, X509 *certificate, const char *file)
{
    if (X509_check_ca(certificate) != 0) {
        tls_note_end(tls, certificate, file);
    }
    return X509_STORE_add_cert(SSL_CTX_get_cert_store(tls->context), certificate) == 1;
}

/* A list of those revoked is looked into where there is any. */
static bool trust_list(struct tls *tls, X509_CRL *list)
{
    X509_STORE *store = SSL_CTX_get_cert_store(tls->context);
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
    STACK_OF(X509_INFO) *found = PEM_X509_INFO_read_bio(bytes, NULL, SSL_CTX_get_default_passwd_cb(tls->context), NULL);
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

/* --- authorities that were revoked -------------------------------------------------------------------------------- */

/* Of an authority, behind OpenSSL's own judgement. X509_V_FLAG_CRL_CHECK looks at the device's certificate alone, and
 * with X509_V_FLAG_CRL_CHECK_ALL each authority needed a list, the root, too, and none were found for one that stands
 * in our file itself. */
static int judge_by_lists(X509_STORE_CTX *store, X509 *authority)
{
    const STACK_OF(X509_OBJECT) *all = X509_STORE_get0_objects(X509_STORE_CTX_get0_store(store));
    bool is_revoked = false, is_current = false, is_listed = false;
    for (int i = 0; i < sk_X509_OBJECT_num(all); i++) {
        X509_CRL *list = X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(all, i));
        X509_REVOKED *entry;
        if (list == NULL || X509_NAME_cmp(X509_CRL_get_issuer(list), X509_get_issuer_name(authority)) != 0) {
            continue;
        }
        const ASN1_TIME *end = X509_CRL_get0_nextUpdate(list);
        is_listed = true;
        is_revoked = is_revoked || X509_CRL_get0_by_cert(list, &entry, authority) == 1;
        is_current = is_current || end == NULL || X509_cmp_current_time(end) > 0;
    }
    return is_revoked ? X509_V_ERR_CERT_REVOKED : is_current || !is_listed ? X509_V_OK : X509_V_ERR_CRL_HAS_EXPIRED;
}

static int on_judged(int good, X509_STORE_CTX *store)
{
    if (good && X509_STORE_CTX_get_error_depth(store) > 0) {
        int error = judge_by_lists(store, X509_STORE_CTX_get_current_cert(store));
        good = error == X509_V_OK;
        if (!good) {
            X509_STORE_CTX_set_error(store, error);
        }
    }
    return good;
}

/* --- how long it lasts -------------------------------------------------------------------------------------------- */

/* Of an authority or a list; 0 = it has none, or is a device's own, whose end is looked at each time. */
static int64_t end_of(const X509_OBJECT *object)
{
    X509 *certificate = X509_OBJECT_get0_X509(object);
    const X509_CRL *list = X509_OBJECT_get0_X509_CRL(object);
    if (certificate != NULL && X509_check_ca(certificate) != 0) {
        return tls_seconds_of(X509_get0_notAfter(certificate));
    }
    return list != NULL ? tls_seconds_of(X509_CRL_get0_nextUpdate(list)) : 0;
}

static void look_for_ends(struct tls *tls, int64_t now_s)
{
    const STACK_OF(X509_OBJECT) *all = X509_STORE_get0_objects(SSL_CTX_get_cert_store(tls->context));
    tls->trust_ends_s = INT64_MAX;
    for (int i = 0; i < sk_X509_OBJECT_num(all); i++) {
        int64_t end_s = end_of(sk_X509_OBJECT_value(all, i));
        if (end_s > now_s) {
            tls->trust_ends_s = end_s < tls->trust_ends_s ? end_s : tls->trust_ends_s;
        } else {
            tls->bond.ended_s = end_s > tls->bond.ended_s ? end_s : tls->bond.ended_s;
        }
    }
}

static struct tls_bond bond_today(struct tls *tls)
{
    int64_t now_s = time(NULL);
    if (now_s >= tls->trust_ends_s) {
        look_for_ends(tls, now_s);
    }
    return tls->bond;
}

/* Records have a size for as long as their session lives (RFC 6066), and OpenSSL refuses whoever would resume it with
 * another: so sessions are bound to that, too, and such a one is not found. */
static int on_hello(SSL *ssl, int *alert, void *owner)
{
    struct tls_bond bond = bond_today(owner);
    const unsigned char *length;
    size_t n;
    (void)alert;
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_max_fragment_length, &length, &n) == 1 && n == 1) {
        bond.fragment = length[0];
    }
    return SSL_set_session_id_context(ssl, (unsigned char *)&bond, sizeof bond) == 1 ? SSL_CLIENT_HELLO_SUCCESS
                                                                                     : SSL_CLIENT_HELLO_ERROR;
}

bool tls_must_come_anew(struct tls *tls, const SSL *ssl)
{
    const X509 *certificate = SSL_get0_peer_certificate(ssl);
    struct tls_bond today = bond_today(tls), then;
    unsigned n;
    if (certificate == NULL) {
        return (SSL_CTX_get_verify_mode(tls->context) & SSL_VERIFY_FAIL_IF_NO_PEER_CERT) != 0;
    }
    const unsigned char *bytes = SSL_SESSION_get0_id_context(SSL_get0_session(ssl), &n);
    assert(n == sizeof then);
    memcpy(&then, bytes, sizeof then);
    today.fragment = then.fragment;
    return memcmp(&then, &today, sizeof then) != 0 || X509_cmp_current_time(X509_get0_notAfter(certificate)) <= 0;
}

/* --- all of it ---------------------------------------------------------------------------------------------------- */

enum status tls_trust_load(struct tls *tls, const struct tls_settings *settings, char *message, size_t size)
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
        return tls_complain("tls-client-ca", settings->client_ca, remedy, message, size);
    }
    SSL_CTX_set_client_hello_cb(tls->context, on_hello, tls);
    if (asks) {
        /* A device's own certificate may stand in the file, whoever signed it: taken out of it, it is refused. */
        X509_STORE_set_flags(SSL_CTX_get_cert_store(tls->context), X509_V_FLAG_PARTIAL_CHAIN);
        SSL_CTX_set_verify(tls->context,
                           SSL_VERIFY_PEER |
                               (settings->client == TLS_CLIENT_REQUIRED ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                           on_judged);
    }
    return STATUS_OK;
}
