/* A self-signed certificate of one name with an ECDSA key, good today, for whoever speaks TLS without a program beside
 * it. Every function aborts where it cannot do its work. */
#ifndef TESTS_SUPPORT_CERTIFICATE_H
#define TESTS_SUPPORT_CERTIFICATE_H

#include <openssl/evp.h>
#include <openssl/x509.h>

struct certificate {
    EVP_PKEY *key;
    X509 *x509;
    char folder[32], cert_path[48], key_path[48]; /* while it is in files */
};

void certificate_init(struct certificate *certificate, const char *name);
void certificate_close(struct certificate *certificate);

/* As PEM, in a temporary folder. */
void certificate_write(struct certificate *certificate);
void certificate_unlink(const struct certificate *certificate);

#endif
